"use strict";
// Two photos side by side, or one above the other where that is larger, and lines between what matches.
const PairPicture = (() => {
  const { h } = Dom;
  const GAP = 8;
  const FEW_LINES = 60; // in a small picture

  // width: of the picture; height: at most, or 0 for any, and then side by side.
  function layout(photo0, photo1, width, height) {
    const [size0, size1] = [photo0, photo1].map((photo) => Data.meta.photos[photo].size || [4, 3]);
    const [aspect0, aspect1] = [size0[0] / size0[1], size1[0] / size1[1]];
    const beside = (w) => {
      const tall = (w - GAP) / (aspect0 + aspect1);
      return { width: w, height: tall, boxes: [[0, 0, tall * aspect0, tall], [tall * aspect0 + GAP, 0, tall * aspect1, tall]] };
    };
    const above = (w) => ({ width: w, height: w / aspect0 + w / aspect1 + GAP, boxes: [[0, 0, w, w / aspect0], [0, w / aspect0 + GAP, w, w / aspect1]] });
    if (!height) return beside(width);
    const fitted = (make) => {
      let w = width;
      for (let round = 0; round < 3 && make(w).height > height; round++) w *= height / make(w).height;
      return make(w);
    };
    const area = (plan) => plan.boxes[0][2] * plan.boxes[0][3] + plan.boxes[1][2] * plan.boxes[1][3];
    const [row, column] = [fitted(beside), fitted(above)];
    return area(row) >= area(column) ? row : column;
  }

  function create(photo0, photo1, box) {
    const row = Data.pairRow(photo0, photo1);
    const turned = row !== undefined && Data.pairs.photos[2 * row] !== photo0;
    const lines = [];
    if (row !== undefined) {
      for (let i = Data.pairs.starts[row]; i < Data.pairs.starts[row + 1]; i++) {
        const ends = Data.pairs.lines.subarray(4 * i, 4 * i + 4);
        lines.push(turned ? [ends[2], ends[3], ends[0], ends[1]] : Array.from(ends));
      }
    }
    if (!box && lines.length > FEW_LINES) {
      const all = lines.splice(0);
      for (let i = 0; i < FEW_LINES; i++) lines.push(all[Math.round((i * (all.length - 1)) / (FEW_LINES - 1))]);
    }
    const dropped = row !== undefined && Data.doppelgangers.has(row);
    const canvas = h("canvas", {
      role: "img",
      "aria-label": `${Dom.shortName(photo0)} and ${Dom.shortName(photo1)}, ${Dom.plural(lines.length, "match", "matches")} drawn between them`,
    });
    let ends = [];
    let marked = -1;
    let lastWidth = 0;

    async function draw(width) {
      lastWidth = width;
      const images = await Promise.all([photo0, photo1].map((photo) => Data.picture(photo)));
      const plan = layout(photo0, photo1, width, box ? box[1] : 0);
      canvas.style.width = box ? `${plan.width}px` : "100%";
      canvas.style.height = box ? `${plan.height}px` : "auto";
      const context = Dom.sized(canvas, plan.width, plan.height);
      context.fillStyle = Colors.theme("sunk");
      plan.boxes.forEach(([x, y, w, ht], side) => {
        context.fillRect(x, y, w, ht);
        if (images[side]) context.drawImage(images[side], x, y, w, ht);
        context.save();
        context.fillStyle = "rgb(10 10 12 / 0.34)";
        context.fillRect(x, y, w, ht);
        context.restore();
      });
      const at = (side, x, y) => [plan.boxes[side][0] + x * plan.boxes[side][2], plan.boxes[side][1] + y * plan.boxes[side][3]];
      ends = lines.map(([x0, y0, x1, y1]) => [at(0, x0, y0), at(1, x1, y1)]);
      const line = (i, alpha, thick) => {
        const [a, b] = ends[i];
        context.strokeStyle = dropped ? `rgb(255 90 110 / ${alpha})` : Colors.place(lines[i][0], lines[i][1], alpha);
        context.lineWidth = thick;
        context.beginPath();
        context.moveTo(...a);
        context.lineTo(...b);
        context.stroke();
      };
      const many = lines.length > 90;
      const strength = marked >= 0 ? 0.16 : many ? 0.5 : 0.7;
      lines.forEach((_, i) => line(i, strength, many ? 1 : 1.3));
      lines.forEach(([x, y], i) => {
        context.fillStyle = dropped ? "rgb(255 90 110)" : Colors.place(x, y);
        context.globalAlpha = marked >= 0 && marked !== i ? 0.35 : 1;
        for (const end of ends[i]) {
          context.beginPath();
          context.arc(...end, box ? 2.6 : 1.9, 0, 7);
          context.fill();
        }
      });
      context.globalAlpha = 1;
      if (marked >= 0) {
        line(marked, 1, 2.4);
        context.strokeStyle = "#fff";
        context.lineWidth = 1.5;
        for (const end of ends[marked]) {
          context.beginPath();
          context.arc(...end, 5, 0, 7);
          context.stroke();
        }
      }
    }

    canvas.addEventListener("mousemove", (event) => {
      const bounds = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
      let best = -1;
      let least = 12;
      ends.forEach((pair, i) => {
        for (const end of pair) {
          const d = Math.hypot(end[0] - x, end[1] - y);
          if (d < least) [best, least] = [i, d];
        }
      });
      if (best !== marked) {
        marked = best;
        draw(lastWidth);
      }
    });
    canvas.addEventListener("mouseleave", () => {
      if (marked < 0) return;
      marked = -1;
      draw(lastWidth);
    });
    if (box) draw(box[0]);
    else Dom.drawn(canvas, draw);
    return { canvas, lines };
  }

  return { create };
})();
