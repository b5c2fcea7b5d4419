"use strict";
// Photos as dots, pairs as lines between them.
const Graph = (() => {
  const { h } = Dom;
  const MAX_LINES = 8000; // drawn; dropped pairs and the strongest
  const MAX_PICTURED = 60; // photos that show themselves as dots
  const MAX_FORCE = 500; // photos that are laid out by force

  // Where photos stand, seen from above; those without a place in a row below. Places are 0…1.
  function byPlace() {
    const model = Viewer.model;
    const places = Data.meta.photos.map(() => null);
    if (model && model.cameras.length) {
      const ground = lengthwise(fromAbove(model));
      const low = [0, 1].map((k) => Math.min(...ground.map((place) => place[k])));
      const high = [0, 1].map((k) => Math.max(...ground.map((place) => place[k])));
      const span = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
      ground.forEach((place, camera) => {
        places[model.cameras[camera]] = [0, 1].map((k) => 0.5 + (place[k] - (low[k] + high[k]) / 2) / span);
      });
    }
    return places;
  }
  function fromAbove(model) {
    const up = model.up;
    const length = Math.hypot(...up) || 1;
    const axis = up.map((value) => value / length);
    const right0 = Array.from(model.rotations.subarray(0, 3));
    const along = right0.reduce((sum, value, k) => sum + value * axis[k], 0);
    let right = right0.map((value, k) => value - along * axis[k]);
    const size = Math.hypot(...right) || 1;
    right = right.map((value) => value / size);
    const back = [right[1] * axis[2] - right[2] * axis[1], right[2] * axis[0] - right[0] * axis[2], right[0] * axis[1] - right[1] * axis[0]];
    return Array.from(model.cameras, (_, camera) => {
      const center = model.centers.subarray(3 * camera, 3 * camera + 3);
      return [right, back].map((unit) => unit[0] * center[0] + unit[1] * center[1] + unit[2] * center[2]);
    });
  }

  // A long path lies across the picture, not along its short side.
  function lengthwise(places) {
    const mean = [0, 1].map((k) => Dom.mean(places.map((place) => place[k])));
    const [xx, xy, yy] = [[0, 0], [0, 1], [1, 1]].map(([i, j]) => Dom.mean(places.map((place) => (place[i] - mean[i]) * (place[j] - mean[j]))));
    const spread = Math.hypot(xx - yy, 2 * xy);
    if (spread < 0.5 * (xx + yy)) return places;
    const angle = 0.5 * Math.atan2(2 * xy, xx - yy);
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    return places.map(([x, y]) => [c * x + s * y, c * y - s * x]);
  }

  // Fruchterman and Reingold, 1991, from a circle, so that it comes out the same each time.
  function byForce(photos, pairs) {
    const count = photos.length;
    const index = new Map(photos.map((photo, i) => [photo, i]));
    const x = photos.map((_, i) => 0.5 + 0.4 * Math.cos((2 * Math.PI * i) / count));
    const y = photos.map((_, i) => 0.5 + 0.4 * Math.sin((2 * Math.PI * i) / count));
    const ideal = 0.75 / Math.sqrt(count);
    const top = Math.max(...pairs.map((row) => Data.pairs.inliers[row]), 1);
    const links = pairs.map((row) => [index.get(Data.pairs.photos[2 * row]), index.get(Data.pairs.photos[2 * row + 1]), Math.sqrt(Data.pairs.inliers[row] / top)]);
    const rounds = count > 200 ? 120 : 300;
    for (let round = 0; round < rounds; round++) {
      const heat = 0.12 * (1 - round / rounds) ** 1.5;
      const [dx, dy] = [new Float64Array(count), new Float64Array(count)];
      for (let i = 0; i < count; i++) {
        for (let j = i + 1; j < count; j++) {
          const [ex, ey] = [x[i] - x[j], y[i] - y[j]];
          const square = Math.max(ex * ex + ey * ey, 1e-6);
          const push = (ideal * ideal) / square;
          dx[i] += ex * push; dy[i] += ey * push;
          dx[j] -= ex * push; dy[j] -= ey * push;
        }
      }
      for (const [i, j, weight] of links) {
        const [ex, ey] = [x[i] - x[j], y[i] - y[j]];
        const pull = (weight * Math.hypot(ex, ey)) / ideal * 0.9;
        dx[i] -= ex * pull; dy[i] -= ey * pull;
        dx[j] += ex * pull; dy[j] += ey * pull;
      }
      for (let i = 0; i < count; i++) {
        dx[i] += (0.5 - x[i]) * 0.4;
        dy[i] += (0.5 - y[i]) * 0.4;
        const length = Math.hypot(dx[i], dy[i]) || 1;
        x[i] += (dx[i] / length) * Math.min(length * 0.1, heat);
        y[i] += (dy[i] / length) * Math.min(length * 0.1, heat);
      }
    }
    const [low, high] = [[Math.min(...x), Math.min(...y)], [Math.max(...x), Math.max(...y)]];
    const span = Math.max(high[0] - low[0], high[1] - low[1]) || 1;
    const places = Data.meta.photos.map(() => null);
    photos.forEach((photo, i) => {
      places[photo] = [0.5 + (x[i] - (low[0] + high[0]) / 2) / span, 0.5 + (y[i] - (low[1] + high[1]) / 2) / span];
    });
    return places;
  }

  // Dots that lie on each other move apart a little.
  function separated(nodes, gap) {
    for (let round = 0; round < 40; round++) {
      let calm = true;
      for (let i = 0; i < nodes.length; i++) {
        for (let j = i + 1; j < nodes.length; j++) {
          let [dx, dy] = [nodes[j].x - nodes[i].x, nodes[j].y - nodes[i].y];
          const d = Math.hypot(dx, dy);
          if (d >= gap) continue;
          calm = false;
          if (d < 1e-6) [dx, dy] = [Math.cos(i + j), Math.sin(i + j)];
          const push = (gap - d) / 2 / (d < 1e-6 ? 1 : d);
          nodes[i].x -= dx * push; nodes[i].y -= dy * push;
          nodes[j].x += dx * push; nodes[j].y += dy * push;
        }
      }
      if (calm) return;
    }
  }

  function create(state) {
    const photos = Data.meta.photos.map((_, photo) => photo);
    const rows = Array.from({ length: Data.pairs.count }, (_, row) => row);
    const canvas = h("canvas", { role: "img", "aria-label": `Match graph: ${Dom.plural(photos.length, "photo", "photos")}, ${Dom.plural(rows.length, "pair", "pairs")}. The list below holds the same pairs.` });
    const tip = h("p.soft", { "aria-hidden": "true", style: { "min-height": "1.5em", "font-size": "0.86rem", "margin-top": "0.4rem" } });
    let nodes = new Map();
    let drawnRows = [];
    let hovered = null;
    let radius = 4;
    let lastWidth = 0;
    const images = new Map();
    const HINT = "Select a photo or a line.";
    tip.textContent = HINT;

    function place(width, height) {
      const force = state.layout === "force" && photos.length <= MAX_FORCE;
      const places = force ? byForce(photos, rows) : byPlace();
      const loose = photos.filter((photo) => !places[photo]);
      const pictured = photos.length <= MAX_PICTURED;
      radius = pictured ? Math.min(20, width / (6.5 * Math.sqrt(photos.length))) : Math.max(2.5, Math.min(7, (width * 2.4) / photos.length));
      const margin = radius + 10;
      const perRow = Math.max(1, Math.floor((width - 2 * margin) / (2.4 * radius)) + 1);
      const looseRows = Math.ceil(loose.length / perRow);
      const foot = loose.length ? looseRows * 2.4 * radius + 12 : 0;
      const side = [width - 2 * margin, height - 2 * margin - foot];
      const scale = Math.min(...side);
      nodes = new Map();
      const list = [];
      photos.forEach((photo) => {
        if (!places[photo]) return;
        const node = { photo, x: width / 2 + (places[photo][0] - 0.5) * scale * Math.min(side[0] / scale, 1.35), y: margin + side[1] / 2 + (places[photo][1] - 0.5) * scale };
        nodes.set(photo, node);
        list.push(node);
      });
      if (list.length <= 400) separated(list, 2.15 * radius);
      for (const node of list) {
        node.x = Math.min(Math.max(node.x, margin - 6), width - margin + 6);
        node.y = Math.min(Math.max(node.y, margin - 6), height - foot - margin + 6);
      }
      loose.forEach((photo, i) => {
        nodes.set(photo, { photo, loose: true, x: margin + (i % perRow) * 2.4 * radius, y: height - margin - (looseRows - 1 - Math.floor(i / perRow)) * 2.4 * radius });
      });
    }

    function draw(width) {
      const height = Math.round(Math.min(width * 0.86, 560));
      if (width !== lastWidth || state.dirty) {
        place(width, height);
        state.dirty = false;
      }
      lastWidth = width;
      const context = Dom.sized(canvas, width, height);
      const inliers = Data.pairs.inliers;
      const top = Math.max(...(rows.length < 1e5 ? inliers : [1]), 1);
      drawnRows = rows
        .filter((row) => (inliers[row] >= state.fewest || Data.doppelgangers.has(row)) && nodes.has(Data.pairs.photos[2 * row]) && nodes.has(Data.pairs.photos[2 * row + 1]))
        .sort((a, b) => Data.doppelgangers.has(a) - Data.doppelgangers.has(b) || inliers[a] - inliers[b])
        .slice(-MAX_LINES);
      const touches = (row) => !hovered || hovered.row === row || (hovered.photo !== undefined && (Data.pairs.photos[2 * row] === hovered.photo || Data.pairs.photos[2 * row + 1] === hovered.photo));
      const [ink, accent, doppelganger] = [Colors.channels("bar"), Colors.channels("accent"), Colors.channels("doppelganger")];
      for (const row of drawnRows) {
        const [a, b] = [nodes.get(Data.pairs.photos[2 * row]), nodes.get(Data.pairs.photos[2 * row + 1])];
        const weight = Math.sqrt(inliers[row] / top);
        const dropped = Data.doppelgangers.has(row);
        const strong = hovered && touches(row);
        context.strokeStyle = Colors.css(dropped ? doppelganger : strong ? accent : ink, hovered ? (strong ? 0.9 : 0.08) : dropped ? 0.95 : 0.03 + 0.67 * weight ** 1.3);
        context.lineWidth = (dropped ? 1.6 : 0.6 + 2.6 * weight) + (hovered && hovered.row === row ? 1.5 : 0);
        context.setLineDash(dropped ? [5, 4] : []);
        context.beginPath();
        context.moveTo(a.x, a.y);
        context.lineTo(b.x, b.y);
        context.stroke();
      }
      context.setLineDash([]);
      for (const node of nodes.values()) drawNode(context, node);
    }

    function drawNode(context, node) {
      const chosen = hovered && hovered.photo === node.photo;
      const image = images.get(node.photo);
      context.beginPath();
      context.arc(node.x, node.y, radius, 0, 7);
      if (photos.length <= MAX_PICTURED && image) {
        context.save();
        context.clip();
        const scale = (2 * radius) / Math.min(image.naturalWidth, image.naturalHeight);
        const [w, ht] = [image.naturalWidth * scale, image.naturalHeight * scale];
        context.globalAlpha = node.loose ? 0.45 : 1;
        context.drawImage(image, node.x - w / 2, node.y - ht / 2, w, ht);
        context.restore();
      } else {
        context.fillStyle = node.loose ? Colors.theme("sunk") : Colors.theme("ink");
        context.fill();
      }
      context.beginPath();
      context.arc(node.x, node.y, radius, 0, 7);
      context.lineWidth = chosen ? 3 : 1.5;
      context.strokeStyle = chosen ? Colors.theme("accent") : node.loose ? Colors.theme("soft") : Colors.theme("raised");
      context.setLineDash(node.loose ? [3, 3] : []);
      context.stroke();
      context.setLineDash([]);
    }

    function find(event) {
      const bounds = canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - bounds.left, event.clientY - bounds.top];
      for (const node of nodes.values()) if (Math.hypot(node.x - x, node.y - y) < Math.max(radius, 8)) return { photo: node.photo };
      let best = null;
      let least = 6;
      for (const row of drawnRows) {
        const [a, b] = [nodes.get(Data.pairs.photos[2 * row]), nodes.get(Data.pairs.photos[2 * row + 1])];
        const [dx, dy] = [b.x - a.x, b.y - a.y];
        const t = Math.min(1, Math.max(0, ((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy || 1)));
        const d = Math.hypot(a.x + t * dx - x, a.y + t * dy - y);
        if (d <= least) [best, least] = [{ row }, d];
      }
      return best;
    }
    const pairOf = (row) => [Data.pairs.photos[2 * row], Data.pairs.photos[2 * row + 1]];
    canvas.addEventListener("mousemove", (event) => {
      const found = find(event);
      if (JSON.stringify(found) === JSON.stringify(hovered)) return;
      hovered = found;
      canvas.style.cursor = found ? "pointer" : "default";
      if (!found) tip.textContent = HINT;
      else if (found.photo !== undefined) tip.textContent = `${Dom.shortName(found.photo)}: ${Dom.plural(Data.neighbours(found.photo).length, "pair", "pairs")}`;
      else {
        const [a, b] = pairOf(found.row);
        tip.textContent = `${Dom.shortName(a)} and ${Dom.shortName(b)}: ${Dom.plural(Data.pairs.inliers[found.row], "inlier", "inliers")}${Data.doppelgangers.has(found.row) ? ", dropped" : ""}`;
      }
      draw(lastWidth);
    });
    canvas.addEventListener("mouseleave", () => {
      hovered = null;
      tip.textContent = HINT;
      draw(lastWidth);
    });
    canvas.addEventListener("click", (event) => {
      const found = find(event);
      if (!found) return;
      location.hash = found.photo !== undefined ? `#/photo/${found.photo}` : `#/pair/${pairOf(found.row).join("/")}`;
    });
    Dom.drawn(canvas, draw);
    if (photos.length <= MAX_PICTURED) {
      for (const photo of photos) {
        Data.picture(photo, true).then((image) => {
          if (!image) return;
          images.set(photo, image);
          if (lastWidth) draw(lastWidth);
        });
      }
    }
    // Where a photo stands on the canvas, and where the middle of a pair: for tests.
    Graph.placeOf = (photo) => nodes.get(photo);
    return {
      element: h("figure.graph", null, canvas, tip),
      redraw: () => {
        state.dirty = true;
        draw(lastWidth || canvas.clientWidth);
      },
    };
  }

  return { create, MAX_FORCE };
})();
