"use strict";
// The page's data blocks, decoded when first needed.
const Data = (() => {
  const json = (name) => JSON.parse(document.getElementById(name).textContent);
  const meta = json("meta");
  const KINDS = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array, float32: Float32Array };
  const RESIDUAL_STEPS = 256;
  const ERROR_STEPS = 1000;
  const FULL = 65535; // a whole side of a photo
  const MAX_DECODED = 80; // previews kept decoded

  function bytes(text) {
    const binary = atob(text);
    const out = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
    return out;
  }

  function array(name) {
    const element = document.getElementById(name);
    const [kind] = meta.arrays[name] || ["uint8"];
    if (!element) return new KINDS[kind](0);
    return new KINDS[kind](bytes(element.textContent).buffer);
  }

  function scaled(values, factor) {
    const out = new Float32Array(values.length);
    for (let i = 0; i < values.length; i++) out[i] = values[i] * factor;
    return out;
  }

  const models = meta.models.map(() => null);
  function model(number) {
    if (models[number] || !meta.models[number]) return models[number];
    const get = (name) => array(`m${number}.${name}`);
    const info = meta.models[number];
    const m = {
      number,
      name: info.name,
      numPoints: info.num_points,
      unit: number ? "" : meta.unit, // which is that of the best
      up: info.up,
      origin: info.origin,
      lensTable: info.lenses,
      cameras: get("cameras"),
      lenses: get("lenses"),
      centers: get("centers"),
      rotations: get("rotations"),
      halfSizes: get("halfSizes"),
      points: get("points"),
      colors: get("colors"),
      errors: scaled(get("errors"), 1 / ERROR_STEPS),
      tracks: get("tracks"),
      starts: get("starts"),
      numObservations: get("numObservations"), // of each camera, in the whole model
      observed: get("observed"),
      places: scaled(get("places"), 1 / FULL),
      residuals: scaled(get("residuals"), 1 / RESIDUAL_STEPS),
    };
    m.isSample = m.points.length / 3 < m.numPoints;
    m.cameraOf = new Map(Array.from(m.cameras, (photo, camera) => [photo, camera]));
    m.lengths = new Float32Array(m.observed.length);
    for (let i = 0; i < m.lengths.length; i++) m.lengths[i] = Math.hypot(m.residuals[2 * i], m.residuals[2 * i + 1]);
    return (models[number] = m);
  }

  // Who sees a point: observations by point, built once for each model.
  function track(m, point) {
    if (!m.trackStarts) {
      const numPoints = m.points.length / 3;
      m.trackStarts = new Uint32Array(numPoints + 1);
      for (const row of m.observed) m.trackStarts[row + 1]++;
      for (let i = 0; i < numPoints; i++) m.trackStarts[i + 1] += m.trackStarts[i];
      const next = m.trackStarts.slice();
      m.trackSeen = new Uint32Array(m.observed.length);
      m.observed.forEach((row, observation) => (m.trackSeen[next[row]++] = observation));
      m.cameraOfSeen = new Uint32Array(m.observed.length);
      for (let c = 0; c < m.cameras.length; c++) m.cameraOfSeen.fill(c, m.starts[c], m.starts[c + 1]);
    }
    return Array.from(m.trackSeen.subarray(m.trackStarts[point], m.trackStarts[point + 1]), (observation) => ({
      observation,
      camera: m.cameraOfSeen[observation],
    }));
  }

  const pairs = {
    photos: array("pairs.photos"),
    matches: array("pairs.matches"),
    verified: array("pairs.verified"), // of the matches; the inliers may be others, of guided matching
    inliers: array("pairs.inliers"),
    probability: array("pairs.probability"),
    starts: array("pairs.starts"),
    lines: scaled(array("pairs.lines"), 1 / FULL),
  };
  pairs.count = pairs.photos.length / 2;
  pairs.share = (row) => pairs.verified[row] / (pairs.matches[row] || 1);
  const pairRows = new Map();
  const neighbourRows = meta.photos.map(() => []);
  for (let i = 0; i < pairs.count; i++) {
    const [a, b] = [pairs.photos[2 * i], pairs.photos[2 * i + 1]];
    pairRows.set(a * meta.photos.length + b, i);
    neighbourRows[a].push(i);
    neighbourRows[b].push(i);
  }
  const doppelgangers = new Map(meta.doppelgangers.map(({ photo0, photo1, reason }) => [pairRow(photo0, photo1), reason]));

  function pairRow(a, b) {
    return pairRows.get(Math.min(a, b) * meta.photos.length + Math.max(a, b));
  }

  function neighbours(photo) {
    return neighbourRows[photo]
      .map((row) => ({ row, photo: pairs.photos[2 * row] === photo ? pairs.photos[2 * row + 1] : pairs.photos[2 * row] }))
      .sort((p, q) => pairs.inliers[q.row] - pairs.inliers[p.row] || p.photo - q.photo);
  }

  const idleStarts = array("idle.starts");
  let idlePlaces = null;
  function idle(photo) {
    if (!idleStarts.length) return new Float32Array(0);
    idlePlaces = idlePlaces || scaled(array("idle.places"), 1 / FULL);
    return idlePlaces.subarray(2 * idleStarts[photo], 2 * idleStarts[photo + 1]);
  }

  function address(kind, photo) {
    const element = document.getElementById(`${kind}${photo}`);
    return element ? `data:image/jpeg;base64,${element.textContent}` : null;
  }
  const thumbnail = (photo) => address("thumb", photo) || address("photo", photo);
  const preview = (photo) => address("photo", photo) || address("thumb", photo);

  const decoded = new Map();
  function picture(photo, small) {
    const key = `${small ? "thumb" : "photo"}${photo}`;
    if (decoded.has(key)) return decoded.get(key);
    const source = small ? thumbnail(photo) : preview(photo);
    const promise = !source
      ? Promise.resolve(null)
      : new Promise((resolve) => {
          const image = new Image();
          image.onload = () => resolve(image);
          image.onerror = () => resolve(null);
          image.src = source;
        });
    decoded.set(key, promise);
    if (decoded.size > MAX_DECODED) decoded.delete(decoded.keys().next().value);
    return promise;
  }

  // A photo that the first model lacks has a reason; which model it is in, if any, the models say.
  const inFirst = new Set(meta.models.length ? model(0).cameras : []);
  const absent = meta.photos.map((_, photo) => photo).filter((photo) => !inFirst.has(photo));
  const missing = absent.filter((photo) => !meta.photos[photo].is_duplicate);
  const duplicates = absent.filter((photo) => meta.photos[photo].is_duplicate);

  return { meta, json, array, model, track, pairs, pairRow, neighbours, doppelgangers, idle, thumbnail, preview, picture, missing, duplicates };
})();
