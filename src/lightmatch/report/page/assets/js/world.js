"use strict";
// A model in the view's coordinates, y up, and where to stand at first.
const World = (() => {
  const every = (values, k) => values.filter((_, i) => i % 3 === k);
  const place3 = (values, row) => [values[3 * row], values[3 * row + 1], values[3 * row + 2]];
  const distance = (values, row, from) => Math.hypot(values[3 * row] - from[0], values[3 * row + 1] - from[1], values[3 * row + 2] - from[2]);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const minus = (a, b) => a.map((value, k) => value - b[k]);
  const minusAlong = (a, axis) => a.map((value, k) => value - dot(a, axis) * axis[k]);
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const normalized = (a) => a.map((value) => value / Math.hypot(...a));

  // Model coordinates → y up, seen from behind the first cameras.
  function toWorld(m) {
    const up = normalized(m.up);
    const numCameras = m.cameras.length;
    const first = Array.from(m.rotations.subarray(0, 3));
    let right = numCameras ? first : [1, 0, 0];
    right = normalized(minusAlong(right, up));
    if (!right.every(Number.isFinite)) right = normalized(minusAlong([1, 0.3, 0.2], up));
    const back = cross(right, up);
    const axes = [right, up, back];
    const turned = (values) => {
      const out = new Float32Array(values.length);
      for (let i = 0; i < values.length; i += 3) {
        for (let k = 0; k < 3; k++) out[i + k] = axes[k][0] * values[i] + axes[k][1] * values[i + 1] + axes[k][2] * values[i + 2];
      }
      return out;
    };
    const apexes = turned(m.centers);
    const cameraAxes = turned(m.rotations); // rows: right, down, forward
    const corners = frustums(cameraAxes, m.halfSizes);
    const points = turned(m.points);
    const middle = [0, 1, 2].map((k) => Dom.median(every(points, k)));
    const distances = new Float32Array(points.length / 3);
    for (let i = 0; i < distances.length; i++) distances[i] = distance(points, i, middle);
    const cameraDistances = Array.from({ length: numCameras }, (_, c) => distance(apexes, c, middle));
    const cloudRadius = Dom.quantile(distances, 0.85) || 1;
    // Cameras may stand far from what they see; few of them should not make it small.
    const radius = Math.max(cloudRadius, Math.min(Dom.quantile(cameraDistances, 0.9), 3 * cloudRadius)) || 1;
    const low = every(points, 1).sort();
    return {
      turned, points, apexes, corners, cameraAxes, middle, radius, cloudRadius,
      cameraReach: 2 * Dom.quantile(cameraDistances, 0.75) || radius,
      floor: points.length ? low[Math.floor(0.03 * low.length)] : -radius / 2,
      pointSize: Math.min(Math.max(3.9 - 0.5 * Math.log10(Math.max(1, m.points.length / 3000)), 2), 4.2),
      cameraSize: Math.min(Math.max(0.55 * spacing(apexes), 0.05 * radius), 0.16 * radius),
    };
  }

  // 12 numbers a camera: from its apex to the corners of its picture.
  function frustums(cameraAxes, halfSizes) {
    const corners = new Float32Array((cameraAxes.length / 9) * 12);
    for (let c = 0; c < cameraAxes.length / 9; c++) {
      const [width, height] = [halfSizes[2 * c], halfSizes[2 * c + 1]];
      // Of pictures of any shape and any lens, the frustums have one size.
      const scale = 0.55 / Math.sqrt(width * height);
      [[-1, -1], [1, -1], [1, 1], [-1, 1]].forEach(([x, y], corner) => {
        for (let k = 0; k < 3; k++) {
          corners[12 * c + 3 * corner + k] = scale * (cameraAxes[9 * c + k] * width * x + cameraAxes[9 * c + 3 + k] * height * y) + Math.min(scale, 1.2) * cameraAxes[9 * c + 6 + k];
        }
      });
    }
    return corners;
  }

  function spacing(apexes) {
    const numCameras = apexes.length / 3;
    const step = Math.max(1, Math.floor(numCameras / 200));
    const nearest = [];
    for (let a = 0; a < numCameras; a += step) {
      let best = Infinity;
      for (let b = 0; b < numCameras; b++) if (b !== a) best = Math.min(best, distance(apexes, b, apexes.subarray(3 * a, 3 * a + 3)));
      if (Number.isFinite(best)) nearest.push(best);
    }
    return Dom.median(nearest);
  }

  // orbit: gives the shape of the view, and is left as it was.
  function homeState(world, orbit) {
    const numCameras = world.apexes.length / 3;
    const forward = [0, 0, 0];
    for (let c = 0; c < numCameras; c++) for (let k = 0; k < 3; k++) forward[k] += world.cameraAxes[9 * c + 6 + k] / numCameras;
    // Cameras all around look at the middle from everywhere: stand behind the first.
    const spread = Math.hypot(forward[0], forward[2]);
    const from = spread > 0.3 || !numCameras ? forward : Array.from(world.cameraAxes.subarray(6, 9));
    const around = spread <= 0.3;
    const cameraMiddle = [0, 1, 2].map((k) => (numCameras ? Dom.median(every(world.apexes, k)) : world.middle[k]));
    const target = world.middle.map((value, k) => value + (around ? 0 : 0.3) * (cameraMiddle[k] - value));
    // Cameras in a row along their view hide each other from behind: look from the side.
    const level = [from[0] / (Math.hypot(from[0], from[2]) || 1), from[2] / (Math.hypot(from[0], from[2]) || 1)];
    const extent = ([x, z]) => {
      const along = Array.from({ length: numCameras }, (_, c) => x * world.apexes[3 * c] + z * world.apexes[3 * c + 2]);
      return Dom.quantile(along, 0.95) - Dom.quantile(along, 0.05);
    };
    const inRow = !around && extent(level) > 1.5 * extent([level[1], -level[0]]);
    const state = { target, radius: world.radius, azimuth: Math.atan2(-from[0], -from[2]) + (inRow ? 0.85 : 0.5), polar: around ? 1.05 : 1.2 };
    return fitted(state, world, orbit);
  }

  // From as near as shows all cameras and nearly all points, but for those that lie far off.
  function fitted(state, world, orbit) {
    const near = (values, reach) => {
      const count = values.length / 3;
      const rows = Array.from({ length: Math.min(count, 1500) }, (_, i) => Math.floor((i * count) / Math.min(count, 1500)));
      return rows.filter((row) => distance(values, row, world.middle) < reach).map((row) => place3(values, row));
    };
    const [cameras, points] = [near(world.apexes, Math.min(3.5 * world.radius, world.cameraReach)), near(world.points, 1.3 * world.cloudRadius)];
    if (!cameras.length && !points.length) return state;
    const before = orbit.state;
    orbit.set({ ...state, radius: world.radius * 5 });
    for (let round = 0; round < 16; round++) {
      const project = orbit.projector();
      const seen = [cameras, points].map((places) => places.map((place) => project(...place)).filter((place) => place[2] > 0));
      const ranges = [0, 1].map((k) => {
        const [ofCameras, ofPoints] = seen.map((places) => places.map((place) => place[k]));
        const ends = [...ofCameras, ...(ofPoints.length ? [Dom.quantile(ofPoints, 0.02), Dom.quantile(ofPoints, 0.98)] : [])];
        return [Math.min(...ends), Math.max(...ends)];
      });
      const [wide, high] = [0.84 * orbit.width, 0.78 * orbit.height];
      const factor = Math.max((ranges[0][1] - ranges[0][0]) / wide, (ranges[1][1] - ranges[1][0]) / high);
      orbit.pan(...[orbit.width, 0.97 * orbit.height].map((size, k) => 0.8 * (size / 2 - (ranges[k][0] + ranges[k][1]) / 2)));
      orbit.zoom(Math.min(Math.max(factor, 0.7), 1.4));
    }
    const found = orbit.state;
    orbit.set(before);
    return found;
  }

  return { toWorld, frustums, homeState, place3, distance, dot, minus };
})();
