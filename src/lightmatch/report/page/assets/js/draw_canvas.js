"use strict";
// The same scene on a plain canvas, for browsers without WebGL: fewer points, no pictures in the frustums.
function createCanvasDrawing(canvas) {
  const context = canvas.getContext("2d");
  const MAX_POINTS = 30000;
  let ratio = 1;
  let positions = new Float32Array(0);
  let tints = new Uint8Array(0);
  let marks = null;
  let apexes = new Float32Array(0);
  let corners = new Float32Array(0);
  let cameraTints = new Uint8Array(0);
  let rays = [new Float32Array(0), new Uint8Array(0)];
  let ground = rays;
  const ribbons = { lines: [new Float32Array(0), new Float32Array(0)], pose: [new Float32Array(0), new Float32Array(0)] };

  const css = (bytes, i) => `rgb(${bytes[i]} ${bytes[i + 1]} ${bytes[i + 2]} / ${bytes[i + 3] / 255})`;
  function segments(project, [position, tint]) {
    for (let i = 0; i < position.length / 6; i++) {
      const a = project(position[6 * i], position[6 * i + 1], position[6 * i + 2]);
      const b = project(position[6 * i + 3], position[6 * i + 4], position[6 * i + 5]);
      if (a[2] <= 0 || b[2] <= 0) continue;
      context.strokeStyle = css(tint, 8 * i);
      context.beginPath();
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
      context.stroke();
    }
  }

  function wide(project, [from, to, tint, width]) {
    context.lineCap = context.lineJoin = "round";
    for (let i = 0; i < from.length / 3; i++) {
      const [a, b] = [from, to].map((ends) => project(ends[3 * i], ends[3 * i + 1], ends[3 * i + 2]));
      if (a[2] <= 0 || b[2] <= 0) continue;
      context.strokeStyle = css(tint, 4 * i);
      context.lineWidth = width[i];
      context.beginPath();
      context.moveTo(a[0], a[1]);
      context.lineTo(b[0], b[1]);
      context.stroke();
    }
  }

  return {
    kind: "canvas",
    resize(width, height, pixelRatio) {
      ratio = pixelRatio;
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    },
    setPoints(position, tint) {
      [positions, tints, marks] = [position, tint, null];
    },
    setTints(tint) {
      tints = tint;
    },
    setMarks(value) {
      marks = value;
    },
    setCameras(apex, corner) {
      [apexes, corners] = [apex, corner];
    },
    setCameraTints(tint) {
      cameraTints = tint;
    },
    setPlanes() {},
    setRays(position, tint) {
      rays = [position, tint];
    },
    setRibbons(name, ...parts) {
      ribbons[name] = parts;
    },
    setGround(position, tint) {
      ground = [position, tint];
    },
    draw(orbit, style) {
      const project = orbit.projector();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, orbit.width, orbit.height);
      context.lineWidth = 1;
      if (style.showGround) segments(project, ground);
      if (style.showPoints) {
        const numPoints = positions.length / 3;
        const stride = Math.max(1, Math.ceil(numPoints / MAX_POINTS));
        const seen = [];
        for (let i = 0; i < numPoints; i += stride) {
          const place = project(positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]);
          if (place[2] > 0 && place[0] > 0 && place[0] < orbit.width && place[1] > 0 && place[1] < orbit.height) seen.push([place, i]);
        }
        seen.sort((a, b) => b[0][2] - a[0][2]); // far ones first
        for (const [[x, y, depth], i] of seen) {
          const side = Math.max(1, style.pointSize * Math.min(Math.max(style.reference / depth, 0.5), 2.4));
          context.globalAlpha = marks && !marks[i] ? 0.22 : 1;
          context.fillStyle = `rgb(${tints[3 * i]} ${tints[3 * i + 1]} ${tints[3 * i + 2]})`;
          context.fillRect(x - side / 2, y - side / 2, side, side);
        }
        context.globalAlpha = 1;
      }
      if (style.showCameras) {
        for (let c = 0; c < apexes.length / 3; c++) {
          const apex = [0, 1, 2].map((k) => apexes[3 * c + k]);
          const ends = [0, 1, 2, 3].map((corner) => project(...apex.map((value, k) => value + style.cameraSize * corners[12 * c + 3 * corner + k])));
          const top = project(...apex);
          if (top[2] <= 0 || ends.some((end) => end[2] <= 0)) continue;
          context.strokeStyle = css(cameraTints, 4 * c);
          context.beginPath();
          ends.forEach((end, corner) => {
            context.moveTo(top[0], top[1]);
            context.lineTo(end[0], end[1]);
            context.lineTo(ends[(corner + 1) % 4][0], ends[(corner + 1) % 4][1]);
          });
          context.stroke();
        }
      }
      segments(project, rays);
      if (style.showLines) wide(project, ribbons.lines);
      wide(project, ribbons.pose);
    },
  };
}
