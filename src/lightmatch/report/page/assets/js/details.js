"use strict";
// One photo, one pair, one point.
const Details = (() => {
  const { h, count, plural, pixels } = Dom;
  const meta = Data.meta;
  const { part, figures } = Parts;
  const { pairCount, lensWords } = Overview;
  const CROP = 0.075; // half of a crop, as a share of a photo's longer side

  const keypointState = { mode: "dots", idle: false };
  const enlargeButton = (label, open) => h("button.button", { type: "button", onclick: open, "aria-label": label }, Dom.icon(Dom.ICONS.enlarge, 15), "Enlarge");

  function photo(number) {
    const info = meta.photos[number];
    if (!info) return null;
    const { model, first, last } = PhotoPicture.observations(number);
    const lengths = model ? model.lengths.subarray(first, last) : [];
    const placed = model && model.cameraOf.has(number);
    const isBest = placed && !model.number; // of which the uncertainties are
    const picture = PhotoPicture.create(number, keypointState);
    const lens = placed ? model.lensTable[model.lenses[model.cameraOf.get(number)]] : null;
    const near = Data.neighbours(number);
    const elsewhere = placed ? -1 : meta.models.findIndex((_, other) => Data.model(other).cameraOf.has(number));
    const words = [info.size ? `${info.size[0]} × ${info.size[1]} px` : null, lens ? lensWords(lens) : null].filter(Boolean).join(" · ");
    const worst = Array.from({ length: last - first }, (_, i) => first + i).sort((a, b) => model.lengths[b] - model.lengths[a]).slice(0, 6);
    return [
      h("h2", null, Dom.fullName(number)),
      words ? h("p.soft", { style: { "margin-top": "0.3rem" } }, words) : null,
      !placed ? h("div.notes", null,
        h("p.note", null, h("b", null, elsewhere >= 0 && !info.reason ? "Not in this model." : "Not registered. "), Dom.sentence(info.reason)),
        info.advice ? h("p.note.calm", null, Dom.sentence(info.advice)) : null,
        elsewhere >= 0 ? h("p", null, h("a", { href: `#/model/${elsewhere}` }, `Show ${meta.models[elsewhere].name}, which has it`)) : null) : null,
      h("figure.picture", null, picture.canvas, picture.controls()),
      h("div.row", { style: { "margin-top": "0.9rem" } },
        placed && Viewer.kind !== "none" ? h("button.button", { type: "button", onclick: () => Viewer.standAt(number) }, Dom.icon(Dom.ICONS.eye, 16), "View from here") : null,
        enlargeButton(`Enlarge ${info.name}`, () => Lightbox.open(info.name, (box) => PhotoPicture.create(number, { ...keypointState }, box).canvas))),
      placed || info.num_keypoints !== null ? figures([
        info.num_keypoints !== null ? ["Keypoints", count(info.num_keypoints)] : null,
        placed ? ["Observations", count(model.numObservations[model.cameraOf.get(number)])] : null,
        placed && lengths.length ? ["Median error", Dom.median(lengths).toFixed(2), "px"] : null,
        isBest && info.position_uncertainty !== null ? ["Position ±", Dom.measure(info.position_uncertainty, "", 2), meta.unit] : null,
        isBest && info.rotation_uncertainty_deg !== null ? ["Direction ±", Dom.measure(info.rotation_uncertainty_deg, "", 2), "°"] : null,
      ]) : null,
      lengths.length ? part("Reprojection errors", `mean ${pixels(Dom.mean(Array.from(lengths)))}`, Charts.errors(lengths, "Reprojection errors of this photo")) : null,
      near.length ? part("Matches", plural(near.length, "photo", "photos"), neighbourList(number, near)) : null,
      worst.length ? part("Largest errors", null, h("div.row", null, worst.map((i) => h("a.button", { href: `#/point/${model.observed[i]}` }, pixels(model.lengths[i]))))) : null,
    ];
  }

  function neighbourList(number, near) {
    const top = Math.max(...near.map(({ row }) => Data.pairs.inliers[row]), 1);
    return Dom.growing(h("ul.list"), near, ({ row, photo: other }) => h("li", null, h("a", { href: `#/pair/${number}/${other}` },
      Dom.thumb(other),
      h("span.names", null, h("span", null, Dom.shortName(other)), meter(Data.pairs.inliers[row] / top, Data.doppelgangers.has(row))),
      pairCount(row))), 20);
  }
  const meter = (share, dropped) => h(dropped ? "span.meter.doppelganger" : "span.meter", null, h("i", { style: { width: `${100 * share}%` } }));

  function pair(photo0, photo1) {
    if (!meta.photos[photo0] || !meta.photos[photo1] || photo0 === photo1) return null;
    const row = Data.pairRow(photo0, photo1);
    const names = [photo0, photo1].map((each) => h("a", { href: `#/photo/${each}` }, Dom.shortName(each)));
    const title = `${meta.photos[photo0].name} and ${meta.photos[photo1].name}`;
    const picture = PairPicture.create(photo0, photo1);
    const shared = sharedPoints(photo0, photo1);
    if (row === undefined) {
      return [h("h2", null, names[0], " and ", names[1]), h("p.lead", null, "These photos have no verified matches."), h("figure.picture", null, picture.canvas)];
    }
    const [inliers, verified, found] = [Data.pairs.inliers[row], Data.pairs.verified[row], Data.pairs.matches[row]];
    const chance = Data.pairs.probability[row];
    const reason = Data.doppelgangers.get(row);
    return [
      h("h2", null, names[0], " and ", names[1]),
      reason !== undefined ? h("div.notes", null, h("p.note", null, `Dropped as doppelgängers: they match but show different places that look alike. ${Dom.sentence(reason)}`)) : null,
      h("figure.picture", null, picture.canvas,
        h("figcaption.soft", null, h("small", null, picture.lines.length < inliers ? `${plural(picture.lines.length, "line", "lines")}, an even sample of ${count(inliers)} inliers` : plural(inliers, "inlier", "inliers")))),
      h("div.row", { style: { "margin-top": "0.8rem" } }, enlargeButton(`Enlarge ${title}`, () => Lightbox.open(title, (box) => PairPicture.create(photo0, photo1, box).canvas))),
      figures([
        ["Matches", count(found)],
        ["Inliers", count(verified)],
        ["Inlier share", found ? Dom.percent(Data.pairs.share(row)) : "–"],
        verified !== inliers ? ["Inliers after guided matching", count(inliers)] : null,
        shared !== null ? [Viewer.model.isSample ? "Shared points shown" : "Shared points", count(shared)] : null,
        Number.isFinite(chance) ? ["Overlap", chance.toFixed(2), "probability"] : null,
      ]),
    ];
  }

  function sharedPoints(photo0, photo1) {
    const [a, b] = [photo0, photo1].map((number) => PhotoPicture.observations(number));
    if (!a.model || a.last === a.first || b.last === b.first) return null;
    const first = new Set(a.model.observed.subarray(a.first, a.last));
    let both = 0;
    for (const point of new Set(b.model.observed.subarray(b.first, b.last))) both += first.has(point) ? 1 : 0;
    return both;
  }

  function point(number) {
    const model = Viewer.model;
    if (!model || number >= model.points.length / 3) return null;
    const seen = Data.track(model, number).sort((a, b) => model.lengths[b.observation] - model.lengths[a.observation]);
    const place = [0, 1, 2].map((k) => Dom.fixed(model.points[3 * number + k] + model.origin[k], decimals(model)));
    const rgb = model.colors.subarray(3 * number, 3 * number + 3);
    const angle = widestAngle(model, number, seen);
    return [
      h("h2", null, `A point in ${plural(seen.length, "photo", "photos")}`),
      h("p.soft", { style: { "margin-top": "0.3rem" } }, h("span.swatch", { style: { background: Colors.css(rgb) } }), ` at ${place.join(", ")}${model.unit ? ` ${model.unit}` : ""}`),
      h("div.row", { style: { "margin-top": "0.9rem" } }, Viewer.kind !== "none" ? h("button.button", { type: "button", onclick: () => Viewer.lookAt(number) }, Dom.icon(Dom.ICONS.eye, 16), "Center the view") : null),
      figures([
        ["Mean error", model.errors[number].toFixed(2), "px"],
        ["Photos", count(model.tracks[number])],
        ["Triangulation angle", angle.toFixed(1), "°"],
      ]),
      part("Observations", "the largest error first", Dom.growing(h("ul.crops"), seen, ({ observation, camera }) => crop(model, observation, model.cameras[camera]), 24)),
      h("p.soft", { style: { "margin-top": "0.9rem" } }, h("small", null, "Ring: keypoint. Cross: projection of the point.")),
    ];
  }

  // That tell places apart which are about a thousandth of the model from each other.
  function decimals(model) {
    if (model.decimals === undefined) {
      const size = Dom.quantile(model.points.map(Math.abs), 0.9) || 1;
      model.decimals = Math.min(Math.max(Math.round(3 - Math.log10(size)), 0), 12);
    }
    return model.decimals;
  }

  // The largest angle between two rays, degrees.
  function widestAngle(model, number, seen) {
    const rays = seen.slice(0, 60).map(({ camera }) => {
      const ray = [0, 1, 2].map((k) => model.points[3 * number + k] - model.centers[3 * camera + k]);
      const length = Math.hypot(...ray) || 1;
      return ray.map((value) => value / length);
    });
    let least = 1;
    rays.forEach((a, i) => rays.slice(i + 1).forEach((b) => (least = Math.min(least, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]))));
    return (Math.acos(Math.min(1, Math.max(-1, least))) * 180) / Math.PI;
  }

  function crop(model, observation, number) {
    const canvas = h("canvas", { role: "img", "aria-label": `Detail of ${Dom.shortName(number)}` });
    Dom.drawn(canvas, async (side) => {
      const image = await Data.picture(number);
      const context = Dom.sized(canvas, side, side);
      if (!image) return;
      const size = meta.photos[number].size || [image.naturalWidth, image.naturalHeight];
      const toPicture = image.naturalWidth / size[0];
      const [x, y] = [model.places[2 * observation] * image.naturalWidth, model.places[2 * observation + 1] * image.naturalHeight];
      const half = CROP * Math.max(image.naturalWidth, image.naturalHeight);
      const zoom = side / (2 * half);
      context.imageSmoothingQuality = "high";
      context.drawImage(image, side / 2 - x * zoom, side / 2 - y * zoom, image.naturalWidth * zoom, image.naturalHeight * zoom);
      const ring = (style, width) => {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.arc(side / 2, side / 2, 9, 0, 7);
        context.stroke();
      };
      ring("rgb(0 0 0 / 0.6)", 3.5);
      ring("#fff", 1.6);
      const [px, py] = [0, 1].map((k) => side / 2 + model.residuals[2 * observation + k] * toPicture * zoom);
      const cross = (style, width) => {
        context.strokeStyle = style;
        context.lineWidth = width;
        context.beginPath();
        context.moveTo(px - 5, py); context.lineTo(px + 5, py);
        context.moveTo(px, py - 5); context.lineTo(px, py + 5);
        context.stroke();
      };
      cross("rgb(0 0 0 / 0.6)", 3.5);
      cross(Colors.css(Colors.at(Colors.ERROR, model.lengths[observation] / PhotoPicture.fullError(model))), 1.8);
    });
    return h("li", null, h("a.tile", { href: `#/photo/${number}` }, canvas, h("span.tile-name", null, Dom.shortName(number)), pixels(model.lengths[observation])));
  }

  return { photo, pair, point };
})();

// A picture as large as the window.
const Lightbox = (() => {
  const dialog = document.getElementById("lightbox");
  let build = null;
  let body = null;
  function fit() {
    if (!build || !dialog.open) return;
    const box = [body.clientWidth - 32, body.clientHeight - 32];
    body.replaceChildren(Dom.h("div.picture", null, build(box)));
  }
  function open(title, make) {
    build = make;
    body = Dom.h("div.lightbox-body");
    const close = Dom.h("button.quiet.icon", { type: "button", "aria-label": "Close", onclick: () => dialog.close() }, Dom.icon(Dom.ICONS.close, 20));
    dialog.replaceChildren(Dom.h("div.lightbox-bar", null, Dom.h("h2", { id: "lightbox-title" }, title), close), body);
    dialog.showModal();
    fit();
  }
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.replaceChildren());
  addEventListener("resize", fit);
  return { open, close: () => dialog.open && dialog.close() };
})();
