"use strict";
// One photo with its keypoints, coloured by reprojection error.
const PhotoPicture = (() => {
  const { h } = Dom;
  const HEAT_COLUMNS = 18;

  // The error at which the ramp ends: one for all photos of a model, so that they compare.
  function fullError(model) {
    if (!model.fullError) model.fullError = Charts.niceCeiling(Math.max(0.5, Dom.quantile(model.lengths, 0.95)));
    return model.fullError;
  }

  function observations(photo) {
    const model = Viewer.model || Data.model(0);
    const camera = model ? model.cameraOf.get(photo) : undefined;
    if (camera === undefined) return { model, first: 0, last: 0 };
    return { model, first: model.starts[camera], last: model.starts[camera + 1] };
  }

  // state: {mode: "dots" | "arrows" | "heat" | "none", idle: bool}. box: [width, height] to fit in, or width alone.
  function create(photo, state, box) {
    const canvas = h("canvas", { role: "img", "aria-label": `${Dom.shortName(photo)} with its keypoints` });
    const { model, first, last } = observations(photo);
    const places = [];
    if (first === last) state = { mode: "none", idle: true };
    let scaleText = null;
    let marked = -1;

    async function draw(width) {
      const image = await Data.picture(photo);
      const size = Data.meta.photos[photo].size || (image ? [image.naturalWidth, image.naturalHeight] : [4, 3]);
      const fit = box ? Math.min(box[0] / size[0], box[1] / size[1]) : width / size[0];
      const [w, ht] = [size[0] * fit, size[1] * fit];
      if (box) Object.assign(canvas.style, { width: `${w}px`, height: `${ht}px` });
      else canvas.style.aspectRatio = `${size[0]} / ${size[1]}`;
      const context = Dom.sized(canvas, w, ht);
      if (image) context.drawImage(image, 0, 0, w, ht);
      if (state.mode !== "none" && state.mode !== "arrows") {
        context.fillStyle = "rgb(10 10 12 / 0.28)"; // a quieter photo: colours read better
        context.fillRect(0, 0, w, ht);
      }
      const radius = Math.min(4, Math.max(2.4, w / 170));
      if (state.idle && state.mode !== "heat") drawIdle(context, w, ht, radius);
      places.length = 0;
      for (let i = first; i < last; i++) places.push([model.places[2 * i] * w, model.places[2 * i + 1] * ht, i]);
      if (state.mode === "dots") drawDots(context, radius);
      if (state.mode === "arrows") drawArrows(context);
      if (state.mode === "heat") drawHeat(context, w, ht);
      if (marked >= 0) drawMark(context, radius);
      canvas.classList.toggle("live", places.length > 0 && state.mode !== "none");
      if (scaleText) scaleText();
    }

    function drawIdle(context, w, ht, radius) {
      const idle = Data.idle(photo);
      context.strokeStyle = "rgb(255 255 255 / 0.55)";
      context.lineWidth = 1;
      for (let i = 0; i < idle.length; i += 2) {
        context.beginPath();
        context.arc(idle[i] * w, idle[i + 1] * ht, radius * 0.75, 0, 7);
        context.stroke();
      }
    }
    const color = (i, alpha) => Colors.css(Colors.at(Colors.ERROR, model.lengths[i] / fullError(model)), alpha);

    function drawDots(context, radius) {
      // The worst on top.
      const order = places.slice().sort((a, b) => model.lengths[a[2]] - model.lengths[b[2]]);
      context.lineWidth = 1.1;
      context.strokeStyle = "rgb(8 10 14 / 0.7)";
      for (const [x, y, i] of order) {
        context.fillStyle = color(i, 1);
        context.beginPath();
        context.arc(x, y, radius, 0, 7);
        context.fill();
        context.stroke();
      }
    }

    const [width0] = Data.meta.photos[photo].size || [1];
    // How much longer than the residual an arrow is drawn, in px of the photo.
    function magnification(w) {
      const typical = Dom.quantile(model.lengths.subarray(first, last), 0.9) * (w / width0);
      return Math.max(1, Math.round(20 / Math.max(typical, 1e-6) / 5) * 5);
    }
    function drawArrows(context) {
      const w = canvas.width / (context.getTransform().a || 1);
      const scale = (magnification(w) * w) / width0;
      state.magnification = magnification(w);
      context.lineCap = "round";
      for (const [x, y, i] of places) {
        const [dx, dy] = [model.residuals[2 * i] * scale, model.residuals[2 * i + 1] * scale];
        const length = Math.hypot(dx, dy);
        for (const [style, line] of [["rgb(0 0 0 / 0.55)", 3], [color(i, 1), 1.6]]) {
          context.strokeStyle = style;
          context.lineWidth = line;
          context.beginPath();
          context.moveTo(x, y);
          context.lineTo(x + dx, y + dy);
          if (length > 4) {
            const [ux, uy] = [dx / length, dy / length];
            context.moveTo(x + dx - 4 * ux + 2.6 * uy, y + dy - 4 * uy - 2.6 * ux);
            context.lineTo(x + dx, y + dy);
            context.lineTo(x + dx - 4 * ux - 2.6 * uy, y + dy - 4 * uy + 2.6 * ux);
          }
          context.stroke();
        }
      }
    }
    function drawHeat(context, w, ht) {
      const [columns, rows] = [HEAT_COLUMNS, Math.max(1, Math.round((HEAT_COLUMNS * ht) / w))];
      const [cw, ch] = [w / columns, ht / rows];
      const sums = new Float32Array(columns * rows);
      const counts = new Float32Array(columns * rows);
      for (const [x, y, i] of places) {
        const cell = Math.min(columns - 1, Math.floor(x / cw)) + columns * Math.min(rows - 1, Math.floor(y / ch));
        sums[cell] += model.lengths[i];
        counts[cell]++;
      }
      for (let cell = 0; cell < sums.length; cell++) {
        if (!counts[cell]) continue;
        context.fillStyle = Colors.css(Colors.at(Colors.ERROR, sums[cell] / counts[cell] / fullError(model)), 0.42 + 0.3 * Math.min(1, counts[cell] / 6));
        context.fillRect((cell % columns) * cw + 0.5, Math.floor(cell / columns) * ch + 0.5, cw - 1, ch - 1);
      }
    }
    function drawMark(context, radius) {
      const found = places.find((place) => place[2] === marked);
      if (!found) return;
      context.strokeStyle = "#fff";
      context.lineWidth = 2;
      context.beginPath();
      context.arc(found[0], found[1], radius + 5, 0, 7);
      context.stroke();
    }

    function nearest(event) {
      if (state.mode === "none") return null;
      const bounds = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
      let best = null;
      for (const place of places) {
        const d = Math.hypot(place[0] - x, place[1] - y);
        if (d < 14 && (!best || d < best.d)) best = { d, observation: place[2] };
      }
      return best;
    }
    canvas.addEventListener("click", (event) => {
      const found = nearest(event);
      if (found) location.hash = `#/point/${model.observed[found.observation]}`;
    });
    canvas.addEventListener("mousemove", (event) => {
      const found = nearest(event);
      canvas.title = found ? `${model.lengths[found.observation].toFixed(2)} px: show the point` : "";
      const next = found ? found.observation : -1;
      if (next !== marked) {
        marked = next;
        redraw();
      }
    });

    let lastWidth = 0;
    const redraw = () => draw(lastWidth);
    if (box) draw(box[0]);
    else Dom.drawn(canvas, (width) => draw((lastWidth = width)));

    // Below the photo: how to show the keypoints, and what the colours mean.
    function controls() {
      const words = h("span.scale", null);
      scaleText = () => {
        const mode = state.mode;
        words.replaceChildren(...(mode === "none" ? [] : [Charts.ramp(Colors.ERROR, "0", `${fullError(model)} px`)]));
        if (mode === "arrows") words.append(`arrows: ${state.magnification}× the errors`);
      };
      const unused = Data.idle(photo).length ? Dom.check(first === last ? "keypoints" : "unused keypoints", state.idle, (on) => {
        state.idle = on;
        redraw();
      }) : null;
      if (first === last) return h("div.row.controls", null, unused);
      return h("div.row.controls", null,
        Dom.choice("Show keypoints as", [["dots", "Dots"], ["arrows", "Arrows"], ["heat", "Heat"], ["none", "None"]], state.mode, (mode) => {
          state.mode = mode;
          redraw();
        }),
        unused,
        words);
    }
    return { canvas, controls, redraw };
  }

  return { create, fullError, observations };
})();
