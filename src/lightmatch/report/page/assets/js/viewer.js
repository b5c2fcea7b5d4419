"use strict";
// The cloud and the cameras: what is chosen, how it is coloured, what a click means.
const Viewer = (() => {
  const { place3, distance, dot, minus } = World;
  const MAX_PLANES = 64; // pictures shown in frustums at once
  const canvas = document.getElementById("canvas");
  const stage = document.getElementById("stage");
  const tip = document.getElementById("tip");
  const orbit = new Orbit();
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const style = {
    colorBy: "photo",
    pointScale: 1,
    cameraScale: 1,
    showPoints: true,
    showCameras: true,
    showPhotos: true,
    showGround: true,
    showLines: true,
  };
  const words = { photo: "photo", photos: "photos" };
  let drawing = null;
  let model = null;
  let world = null; // the model in view coordinates: y up, origin among the cameras
  let home = null;
  let lines = []; // that are always shown: [{from, to, color, alpha, width}], places in the model, width in px
  let pose = null; // of a camera that is shown beside those of the model: {center, rotation, alpha}
  let chosen = { kind: "none" };
  let hovered = null;
  let onchoose = () => {};
  let queued = false;
  let flight = 0;

  function open() {
    if (hasWebGL()) drawing = createWebGLDrawing(canvas);
    else {
      drawing = createCanvasDrawing(canvas);
      const words = document.getElementById("no-view");
      words.hidden = false;
      words.textContent = "No WebGL here: a simpler view is shown. All other parts work.";
    }
    canvas.addEventListener("webglcontextrestored", redraw);
    controlOrbit(canvas, orbit, {
      changed: () => {
        flight = 0;
        redraw();
      },
      tap: (x, y, touch) => {
        const found = pick(x, y, touch ? 22 : 9);
        onchoose(found);
      },
      hover,
      step,
      reset: () => fly(home),
      leave: () => onchoose(null),
    });
    new ResizeObserver(resize).observe(stage);
    resize();
  }

  function hasWebGL() {
    try {
      return Boolean(document.createElement("canvas").getContext("webgl2"));
    } catch {
      return false;
    }
  }

  function resize() {
    const [width, height] = [stage.clientWidth, stage.clientHeight];
    if (!drawing || !width || !height) return;
    orbit.resize(width, height);
    drawing.resize(width, height, Math.min(window.devicePixelRatio || 1, 2));
    draw();
  }

  function redraw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      draw();
    });
  }

  function draw() {
    if (!drawing || !world) return;
    updatePlanes();
    drawing.draw(orbit, {
      ...style,
      pointSize: world.pointSize * style.pointScale * Math.min(1, Math.max(0.6, orbit.height / 750)),
      cameraSize: cameraSize(),
      reference: world.radius * 2.4,
      paper: Colors.channels("stage-middle"),
    });
  }

  const cameraSize = () => world.cameraSize * style.cameraScale;

  function setModel(number) {
    model = Data.model(number);
    if (!drawing || !model) return;
    world = World.toWorld(model);
    orbit.extent = world.radius;
    home = World.homeState(world, orbit);
    orbit.set(home);
    drawing.setPoints(world.points, tints());
    drawing.setCameras(world.apexes, world.corners);
    ground();
    drawLines();
    drawPose();
    show({ kind: "none" });
  }

  // Lines → their ends (3 numbers each), colours (4) and widths in the view's coordinates.
  function ribbons(shown) {
    const colors = new Map([...new Set(shown.map(({ color }) => color))].map((color) => [color, Colors.channels(color)]));
    const ends = (key) => world.turned(new Float32Array(shown.flatMap((line) => line[key])));
    const tint = new Uint8Array(shown.flatMap(({ color, alpha = 1 }) => [...colors.get(color), 255 * alpha]));
    return [ends("from"), ends("to"), tint, new Float32Array(shown.map(({ width }) => width))];
  }
  const drawLines = () => drawing.setRibbons("lines", ...ribbons(lines));
  function drawPose() {
    if (!pose) return drawing.setRibbons("pose", ...ribbons([]));
    const corners = World.frustums(pose.rotation, model.halfSizes.subarray(0, 2));
    const apex = Array.from(pose.center);
    const ends = [0, 1, 2, 3].map((corner) => apex.map((value, k) => value + 1.25 * cameraSize() * corners[3 * corner + k]));
    const edges = ends.flatMap((end, corner) => [[apex, end], [end, ends[(corner + 1) % 4]]]);
    return drawing.setRibbons("pose", ...ribbons(edges.map(([from, to]) => ({ from, to, color: "accent", alpha: pose.alpha, width: 2.5 }))));
  }
  function setLines(shown) {
    lines = shown;
    if (!drawing || !world) return;
    drawLines();
    redraw();
  }
  function setPose(shown) {
    pose = shown;
    if (!drawing || !world) return;
    drawPose();
    redraw();
  }

  function tints() {
    const out = new Uint8Array(model.points.length);
    if (style.colorBy === "photo") {
      // What is black in a photo must not vanish in a dark room, nor white in a bright one.
      const dark = Colors.channels("stage")[0] < 128;
      for (let i = 0; i < out.length; i++) out[i] = dark ? 40 + 0.84 * model.colors[i] : 0.9 * model.colors[i];
    } else {
      const { values, ramp, low, high } = scale();
      for (let i = 0; i < values.length; i++) out.set(Colors.at(ramp, (values[i] - low) / (high - low || 1)), 3 * i);
    }
    return out;
  }
  function scale() {
    if (style.colorBy === "error") {
      return { values: model.errors, ramp: Colors.ERROR, low: 0, high: Charts.niceCeiling(Math.max(0.5, Dom.quantile(model.errors, 0.95))), label: "Reprojection error", unit: "px" };
    }
    return { values: model.tracks, ramp: Colors.TRACK, low: 2, high: Math.max(3, Dom.quantile(model.tracks, 0.98)), label: `Track length (${words.photos})`, unit: "" };
  }

  // A floor of squares that fades out: 1, 2 or 5 times a power of ten wide.
  function ground() {
    const rough = world.radius / 5;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [5, 2, 1].map((k) => k * power).find((size) => size <= rough) || power;
    const num = 14;
    const [x0, z0] = [world.middle[0], world.middle[2]].map((value) => Math.round(value / step) * step);
    const position = [];
    const tint = [];
    const ink = Colors.channels("soft");
    const alpha = (i, j) => 64 * Math.max(0, 1 - Math.hypot(i, j) / num) ** 1.3;
    const add = (i0, j0, i1, j1) => {
      position.push(x0 + i0 * step, world.floor, z0 + j0 * step, x0 + i1 * step, world.floor, z0 + j1 * step);
      tint.push(...ink, alpha(i0, j0), ...ink, alpha(i1, j1));
    };
    for (let i = -num; i <= num; i++) {
      for (let j = -num; j < num; j++) {
        add(i, j, i, j + 1);
        add(j, i, j + 1, i);
      }
    }
    world.step = step;
    drawing.setGround(new Float32Array(position), new Uint8Array(tint));
  }

  // chosen: {kind: "none" | "photo" | "pair" | "point", …}: marks points, cameras and rays.
  function show(choice) {
    chosen = choice;
    if (!drawing || !world) return;
    const marks = new Uint8Array(model.points.length / 3);
    const cameras = new Map(); // camera → how strongly it is marked
    const rays = [];
    const seenBy = (camera) => model.observed.subarray(model.starts[camera], model.starts[camera + 1]);
    const camera = (photo) => model.cameraOf.get(photo);
    let marked = false;
    if (choice.kind === "photo" && camera(choice.photo) !== undefined) {
      cameras.set(camera(choice.photo), 1);
      for (const row of seenBy(camera(choice.photo))) marks[row] = 255;
      marked = true;
    } else if (choice.kind === "pair") {
      const ends = [camera(choice.photo0), camera(choice.photo1)].filter((c) => c !== undefined);
      ends.forEach((c) => cameras.set(c, 1));
      if (ends.length === 2) {
        const first = new Set(seenBy(ends[0]));
        for (const row of seenBy(ends[1])) if (first.has(row)) marks[row] = 255;
        rays.push([...place3(world.apexes, ends[0]), ...place3(world.apexes, ends[1])]);
        marked = true;
      }
    } else if (choice.kind === "point") {
      marks[choice.point] = 255;
      marked = true;
      for (const seen of Data.track(model, choice.point)) {
        cameras.set(seen.camera, 1);
        rays.push([...place3(world.points, choice.point), ...place3(world.apexes, seen.camera)]);
      }
    }
    drawing.setMarks(marked ? marks : null, choice.kind === "point" ? 3.2 : 1.35);
    const [accent, ink] = [Colors.channels("accent"), Colors.channels("ink")];
    const tint = new Uint8Array(model.cameras.length * 4);
    for (let c = 0; c < model.cameras.length; c++) tint.set(cameras.has(c) ? [...accent, 255] : [...ink, marked ? 70 : 150], 4 * c);
    drawing.setCameraTints(tint);
    drawing.setRays(new Float32Array(rays.flat()), new Uint8Array(rays.flatMap(() => [...accent, 190, ...accent, 190])));
    world.marked = cameras;
    redraw();
  }

  function updatePlanes() {
    const numCameras = model.cameras.length;
    if (!style.showPhotos || drawing.kind !== "webgl") return drawing.setPlanes([]);
    const { eye } = orbit.basis;
    const order = Array.from({ length: numCameras }, (_, c) => c);
    if (numCameras > MAX_PLANES) {
      const far = order.map((c) => (world.marked.has(c) ? 0 : distance(world.apexes, c, eye)));
      order.sort((a, b) => far[a] - far[b]);
    }
    world.images = world.images || new Map();
    const shown = [];
    for (const camera of order.slice(0, MAX_PLANES)) {
      const image = world.images.get(camera);
      const strong = world.marked.has(camera);
      if (image) shown.push({ camera, image, opacity: strong ? 1 : world.marked.size ? 0.28 : 0.82 });
      else if (image === undefined) {
        const into = world;
        into.images.set(camera, null);
        Data.picture(model.cameras[camera], true).then((loaded) => {
          into.images.set(camera, loaded);
          if (loaded && into === world) redraw();
        });
      }
    }
    return drawing.setPlanes(shown);
  }

  // The camera or point at a place of the view: {kind, photo | point} or null.
  function pick(x, y, reach) {
    if (!world) return null;
    const project = orbit.projector();
    let best = null;
    if (style.showCameras) {
      for (let c = 0; c < model.cameras.length; c++) {
        const apex = place3(world.apexes, c);
        const top = project(...apex);
        const ends = [0, 1, 2, 3].map((corner) => project(...apex.map((value, k) => value + cameraSize() * world.corners[12 * c + 3 * corner + k])));
        if (top[2] <= 0 || ends.some((end) => end[2] <= 0)) continue;
        const close = Math.hypot(top[0] - x, top[1] - y) < reach || inside(x, y, ends);
        if (close && (!best || top[2] < best.depth)) best = { depth: top[2], kind: "photo", photo: model.cameras[c] };
      }
    }
    if (style.showPoints) {
      let nearest = null;
      for (let i = 0; i < model.points.length / 3; i++) {
        const [px, py, depth] = project(world.points[3 * i], world.points[3 * i + 1], world.points[3 * i + 2]);
        if (depth <= 0 || Math.abs(px - x) > reach || Math.abs(py - y) > reach) continue;
        // Among points under the pointer the one in front counts, among those beside it the nearest.
        const cost = Math.max(3, Math.hypot(px - x, py - y)) + (depth / world.radius) * 4;
        if (!nearest || cost < nearest.cost) nearest = { cost, depth, kind: "point", point: i };
      }
      if (nearest && (!best || nearest.depth < best.depth)) best = nearest;
    }
    return best;
  }

  let hoverQueued = false;
  let hoverPlace = null;
  function hover(x, y) {
    hoverPlace = x === null ? null : [x, y];
    if (hoverQueued) return;
    hoverQueued = true;
    requestAnimationFrame(() => {
      hoverQueued = false;
      hovered = hoverPlace ? pick(...hoverPlace, 7) : null;
      canvas.classList.toggle("pointing", Boolean(hovered));
      tip.hidden = !hovered;
      if (!hovered) return;
      tip.replaceChildren(...tipContent(hovered));
      const [left, top] = hoverPlace;
      const [width, height] = [tip.offsetWidth, tip.offsetHeight];
      const tx = left + 16 + width > orbit.width ? left - width - 12 : left + 16;
      const ty = Math.min(Math.max(8, top - height / 2), orbit.height - height - 8);
      tip.style.transform = `translate(${Math.round(tx)}px, ${Math.round(ty)}px)`;
    });
  }
  function tipContent(found) {
    if (found.kind === "photo") {
      const source = Data.thumbnail(found.photo);
      return [source && Dom.h("img", { src: source, alt: "" }), Dom.shortName(found.photo)].filter(Boolean);
    }
    return [`Seen by ${Dom.plural(model.tracks[found.point], words.photo, words.photos)}, error ${Dom.pixels(model.errors[found.point])}`];
  }

  function step(by) {
    const order = Array.from(model.cameras).sort((a, b) => a - b);
    if (!order.length) return;
    const now = chosen.kind === "photo" ? order.indexOf(chosen.photo) : by > 0 ? -1 : 0;
    onchoose({ kind: "photo", photo: order[(now + by + order.length) % order.length] });
  }

  // Moves the view to a state, smoothly where motion is welcome.
  function fly(goal) {
    if (!goal) return;
    const start = orbit.state;
    let turn = (goal.azimuth - start.azimuth) % (2 * Math.PI);
    if (Math.abs(turn) > Math.PI) turn -= Math.sign(turn) * 2 * Math.PI;
    if (calm.matches) {
      orbit.set(goal);
      return redraw();
    }
    const begun = performance.now();
    const id = (flight = begun);
    const frame = () => {
      if (flight !== id) return;
      const t = Math.min(1, (performance.now() - begun) / 450);
      const e = t < 0.5 ? 4 * t ** 3 : 1 - (-2 * t + 2) ** 3 / 2;
      const mix = (a, b) => a + (b - a) * e;
      orbit.set({
        target: start.target.map((value, k) => mix(value, goal.target[k])),
        radius: Math.exp(mix(Math.log(start.radius), Math.log(goal.radius))),
        azimuth: start.azimuth + turn * e,
        polar: mix(start.polar, goal.polar),
      });
      draw();
      if (t < 1) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  // Stand a little behind a camera and look where it looks.
  function standAt(photo) {
    const camera = model.cameraOf.get(photo);
    if (camera === undefined || !world) return;
    const forward = place3(world.cameraAxes.subarray(9 * camera + 6), 0);
    const apex = place3(world.apexes, camera);
    const reach = Math.max(world.radius * 0.2, dot(minus(world.middle, apex), forward));
    const eye = apex.map((value, k) => value - forward[k] * cameraSize() * 2.2);
    fly({
      target: apex.map((value, k) => value + forward[k] * reach),
      radius: reach + Math.hypot(...minus(eye, apex)),
      azimuth: Math.atan2(-forward[0], -forward[2]),
      polar: Math.acos(Math.min(Math.max(-forward[1], -0.999), 0.999)),
    });
  }
  function lookAt(point) {
    if (world) fly({ ...orbit.state, target: place3(world.points, point), radius: Math.min(orbit.radius, world.radius) });
  }

  function set(changes) {
    Object.assign(style, changes);
    if (!drawing || !world) return;
    if ("colorBy" in changes) drawing.setTints(tints());
    if ("cameraScale" in changes) drawPose();
    redraw();
  }
  function recolor() {
    if (!drawing || !world) return;
    ground();
    drawing.setTints(tints());
    drawLines();
    drawPose();
    show(chosen);
  }

  // Where something is on the view, in px: for tests, and to point at it.
  function placeOf(kind, number) {
    const project = orbit.projector();
    if (kind === "pose") return pose ? project(...world.turned(new Float32Array(pose.center))) : null;
    if (kind === "point") return project(...place3(world.points, number));
    return project(...place3(world.apexes, model.cameraOf.get(number)));
  }

  function inside(x, y, polygon) {
    let within = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
      const [[xi, yi], [xj, yj]] = [polygon[i], polygon[j]];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) within = !within;
    }
    return within;
  }

  return {
    open, setModel, setLines, setPose, show, set, recolor, pick, placeOf, standAt, lookAt, scale,
    reset: () => fly(home),
    choose: (handler) => (onchoose = handler),
    get model() { return model; },
    get style() { return style; },
    get words() { return words; },
    get kind() { return drawing ? drawing.kind : "none"; },
    get gridStep() { return world ? world.step : 0; },
  };
})();
