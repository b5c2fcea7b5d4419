"use strict";
// The parts of the report: summary, photos, matches, quality, run. Each gives the elements to show.
const Overview = (() => {
  const { h, count, plural, pixels, duration } = Dom;
  const { part, facts, figures } = Parts;
  const meta = Data.meta;

  const meanError = (model) => Dom.mean(Array.from(model.errors));
  const meanTrack = (model) => Dom.mean(Array.from(model.tracks));
  const totalSeconds = meta.seconds.reduce((sum, [, seconds]) => sum + seconds, 0);

  function summary() {
    const model = Viewer.model;
    const all = meta.photos.length - Data.duplicates.length;
    const placed = all - Data.missing.length;
    const headline = !model ? "No photo could be registered" : placed === all ? `All ${count(all)} photos are registered` : `${count(placed)} of ${count(all)} photos are registered`;
    const sentences = [];
    if (model && model.number) sentences.push(`${model.name} is shown: a smaller model, not connected to the first, of ${plural(model.cameras.length, "photo", "photos")}.`);
    if (model) sentences.push(`${count(model.numPoints)} points, each observed in ${meanTrack(model).toFixed(1)} photos on average, with a mean reprojection error of ${pixels(meanError(model))}.`);
    if (totalSeconds) sentences.push(`The run took ${duration(totalSeconds)}.`);
    const shown = model ? Array.from(model.cameras).sort((a, b) => a - b) : [];
    return [
      h("h2", null, headline),
      h("p.lead", null, sentences.join(" ")),
      model && figures([
        ["Photos registered", count(model.cameras.length), model.number ? null : `of ${count(all)}`],
        ["Points", count(model.numPoints)],
        ["Reprojection error", meanError(model).toFixed(2), "px"],
        ["Photos per point", meanTrack(model).toFixed(1)],
      ]),
      Parts.notes(),
      Data.missing.length ? part("Not registered", null, missingList(Data.missing, 4)) : null,
      Data.duplicates.length ? part("Duplicates", "copies of other photos", missingList(Data.duplicates, 4)) : null,
      meta.models.length + meta.more_models.length > 1 ? part("Models", "parts of the scene without a connection", modelList()) : null,
      shown.length ? part("Photos", null, h("div.sheet.small", null, shown.slice(0, 30).map((photo) => h("a.tile", { href: `#/photo/${photo}`, "aria-label": Dom.shortName(photo) }, Dom.thumb(photo)))), shown.length > 30 ? h("p", null, h("a", { href: "#/photos" }, `All ${count(shown.length)}`)) : null) : null,
      part("Controls of the view", null, Parts.keys("a camera shows its photo, a point its track")),
    ];
  }

  function modelList() {
    return h("ul.list", null,
      meta.models.map((info, number) => {
        const model = Data.model(number);
        return h("li", null, h("a", { href: `#/model/${number}`, "aria-current": Viewer.model === model ? "true" : null },
          model.cameras.length ? Dom.thumb(model.cameras[0]) : h("span"),
          h("span.names", null, h("span", null, info.name, number ? null : " (the best)")),
          h("span.count", null, plural(model.cameras.length, "photo", "photos"), h("small", null, plural(info.num_points, "point", "points")))));
      }),
      meta.more_models.map((name) => h("li", null, h("p.soft", { style: { padding: "0.45rem 0.25rem" } }, `${name}: on disk, not on this page`))));
  }

  function missingList(rows, limit) {
    const list = h("ul.missing");
    const build = (photo) => {
      const info = meta.photos[photo];
      const elsewhere = meta.models.findIndex((_, number) => Data.model(number).cameraOf.has(photo));
      return h("li", null,
        h("a", { href: `#/photo/${photo}`, tabindex: "-1", "aria-hidden": "true" }, Dom.thumb(photo)),
        h("div", null,
          h("p", null, h("a", { href: `#/photo/${photo}` }, Dom.fullName(photo))),
          h("p", null, Dom.sentence(info.reason || (elsewhere > 0 ? `registered in another model, ${meta.models[elsewhere].name}` : "not registered"))),
          info.advice ? h("p.advice", null, Dom.sentence(info.advice)) : null));
    };
    return Dom.growing(list, rows, build, limit);
  }

  function photoRows(model) {
    return Array.from(model.cameras, (photo, camera) => {
      const lengths = model.lengths.subarray(model.starts[camera], model.starts[camera + 1]);
      return { photo, camera, seen: model.numObservations[camera], error: Dom.mean(Array.from(lengths)) };
    });
  }

  const photosState = { sort: "name", search: "" };
  function photos() {
    const model = Viewer.model;
    const rows = model ? photoRows(model) : [];
    const isLong = rows.length > 12; // else there is no search
    const holder = h("div");
    const orders = {
      name: (a, b) => a.photo - b.photo,
      error: (a, b) => b.error - a.error || a.photo - b.photo,
      points: (a, b) => a.seen - b.seen || a.photo - b.photo,
    };
    const refresh = () => {
      const wanted = isLong ? photosState.search.toLowerCase() : "";
      const shown = rows.filter((row) => meta.photos[row.photo].name.toLowerCase().includes(wanted)).sort(orders[photosState.sort]);
      holder.replaceChildren(...(shown.length
        ? Dom.growing(h("div.sheet"), shown, (row) => h("a.tile", { href: `#/photo/${row.photo}` },
            Dom.thumb(row.photo), h("span.tile-name", null, Dom.shortName(row.photo)), `${count(row.seen)} pts · ${pixels(row.error)}`), 120)
        : [h("p.soft", null, "No photo of that name.")]));
    };
    refresh();
    return [
      h("h2", null, "Photos"),
      h("p.lead", null, model ? `${plural(rows.length, "photo is", "photos are")} registered in ${model.name}. Below each: number of points observed, mean reprojection error.` : "No photo is registered."),
      rows.length > 1 ? h("div.row.apart", { style: { margin: "1.2rem 0" } },
        Dom.choice("Order", [["name", "By name"], ["error", "Largest error"], ["points", "Fewest points"]], photosState.sort, (sort) => {
          photosState.sort = sort;
          refresh();
        }),
        isLong ? h("input", { type: "search", placeholder: "Search", "aria-label": "Search photos by name", value: photosState.search, oninput: (event) => {
          photosState.search = event.target.value;
          refresh();
        } }) : null) : null,
      holder,
      Data.missing.length ? part("Not registered", count(Data.missing.length), missingList(Data.missing, 24)) : null,
      Data.duplicates.length ? part("Duplicates", count(Data.duplicates.length), missingList(Data.duplicates, 24)) : null,
    ];
  }

  const graphState = { layout: "place", fewest: 0, dirty: false };
  const pairsState = { sort: "most" };
  function pairItem(row) {
    const [a, b] = [Data.pairs.photos[2 * row], Data.pairs.photos[2 * row + 1]];
    return h("li", null, h("a.two", { href: `#/pair/${a}/${b}` },
      h("span.pair-thumbs", null, Dom.thumb(a), Dom.thumb(b)),
      h("span.names", null, h("span", null, Dom.shortName(a)), h("span", null, Dom.shortName(b))),
      pairCount(row)));
  }
  function pairCount(row) {
    const { inliers, verified, matches: found, probability } = Data.pairs;
    const chance = probability[row];
    return h("span.count", null, count(inliers[row]),
      verified[row] === inliers[row] ? h("small", null, `of ${count(found[row])}`)
        : h("small", { title: "Inliers and matches before guided matching" }, `before: ${count(verified[row])} of ${count(found[row])}`),
      Number.isFinite(chance) ? h("small", { title: "Probability that the two photos overlap" }, `overlap ${chance.toFixed(2)}`) : null,
      Data.doppelgangers.has(row) ? h("span.tag.doppelganger", null, "dropped") : null);
  }

  function matches() {
    if (!Data.pairs.count) return [h("h2", null, "Matches"), h("p.lead", null, "There are no pairs: the run has no database, or no two photos match.")];
    const graph = Graph.create(graphState);
    const { inliers, probability, share } = Data.pairs;
    const all = Array.from({ length: Data.pairs.count }, (_, row) => row);
    const rows = all.filter((row) => inliers[row]);
    const chance = (row) => (Number.isFinite(probability[row]) ? probability[row] : 2); // unknown: last
    const orders = {
      most: (a, b) => inliers[b] - inliers[a] || a - b,
      fewest: (a, b) => inliers[a] - inliers[b] || a - b,
      share: (a, b) => share(a) - share(b) || a - b,
      unlikely: (a, b) => chance(a) - chance(b) || a - b,
    };
    const holder = h("div");
    const refresh = () => holder.replaceChildren(...Dom.growing(h("ul.list"), rows.slice().sort(orders[pairsState.sort]), pairItem, 25));
    refresh();
    const most = Math.max(...Array.from(inliers.slice(0, 1e5)), 1);
    const output = h("output", null, count(graphState.fewest));
    const hasChance = probability.some(Number.isFinite);
    const dropped = all.filter((row) => Data.doppelgangers.has(row));
    return [
      h("h2", null, "Matches"),
      h("p.lead", null, `${plural(meta.num_pairs, "pair", "pairs")} of photos are verified, with a median of ${count(Dom.median(rows.map((row) => inliers[row])))} inliers. Thicker lines have more inliers.`),
      h("div.row.apart", { style: { margin: "1.1rem 0 0.8rem" } },
        meta.photos.length <= Graph.MAX_FORCE ? Dom.choice("Place the photos", [["place", "Seen from above"], ["force", "By matches"]], graphState.layout, (value) => {
          graphState.layout = value;
          graph.redraw();
        }) : null,
        h("label.check", null, "at least ", output, h("input", { type: "range", min: 0, max: Math.ceil(most / 2), step: 1, value: graphState.fewest, "aria-label": "Show pairs with at least this many inliers", style: { width: "6.5rem" }, oninput: (event) => {
          graphState.fewest = Number(event.target.value);
          output.textContent = count(graphState.fewest);
          graph.redraw();
        } }))),
      graph.element,
      dropped.length ? part("Dropped pairs", "doppelgängers: they match but show different places that look alike", h("ul.list", null, dropped.map(pairItem))) : null,
      part("Pairs", count(meta.num_pairs),
        h("div.row", { style: { "margin-bottom": "0.8rem" } }, Dom.choice("Order of pairs", [["most", "Most inliers"], ["fewest", "Fewest"], ["share", "Lowest share"], ...(hasChance ? [["unlikely", "Lowest overlap"]] : [])], pairsState.sort, (sort) => {
          pairsState.sort = sort;
          refresh();
        })),
        holder),
    ];
  }

  function quality() {
    const model = Viewer.model;
    if (!model) return [h("h2", null, "Quality"), h("p.lead", null, "There is no model.")];
    const rows = photoRows(model).sort((a, b) => b.error - a.error || a.photo - b.photo);
    const bars = h("div.bars");
    const top = Math.max(...rows.map((row) => row.error));
    const isBest = !model.number; // of which the run knows more
    const uncertain = isBest ? Array.from(model.cameras).filter((photo) => meta.photos[photo].position_uncertainty !== null) : [];
    const observations = model.isSample ? "of the points shown" : "of all observations";
    return [
      h("h2", null, "Quality"),
      h("p.lead", null, `The median reprojection error ${observations} is ${pixels(Dom.median(model.lengths))}; 95${"\u202f"}% are below ${pixels(Dom.quantile(model.lengths, 0.95))}.`),
      part("Reprojection errors", observations, Charts.errors(model.lengths, "Reprojection errors")),
      part("Track length", `number of points${model.isSample ? " shown" : ""}, by the number of photos that observe them`, Charts.counts(model.tracks, "Photos that see a point")),
      isBest ? part("Numbers", null, facts(meta.figures.map(({ label, value, note }) => [label, note ? `${value} (${note})` : value]))) : null,
      isBest && meta.frame.length ? part("Coordinate frame", null, facts(meta.frame)) : null,
      part("Cameras", null, lensTable(model)),
      part("Mean error of each photo", "the largest first", Dom.growing(bars, rows, (row) => Charts.bars([{ name: Dom.shortName(row.photo), value: row.error, text: pixels(row.error), href: `#/photo/${row.photo}` }], top)[0], 20)),
      uncertain.length ? part("Uncertainty of each camera", "one standard deviation", uncertaintyTable(uncertain)) : null,
    ];
  }

  function lensTable(model) {
    const uses = new Array(model.lensTable.length).fill(0);
    for (const lens of model.lenses) uses[lens]++;
    const head = h("tr", null, h("th", { scope: "col" }, "Model"), h("th", { scope: "col" }, "Parameters"), h("th.number", { scope: "col" }, "Photos"));
    const body = h("tbody");
    const order = uses.map((_, lens) => lens).filter((lens) => uses[lens]).sort((a, b) => uses[b] - uses[a] || a - b);
    const [, more] = Dom.growing(body, order, (lens) => {
      const info = model.lensTable[lens];
      return h("tr", null,
        h("td", null, info.model.toLowerCase().replaceAll("_", " "), h("br"), h("small.soft", null, `${info.size[0]} × ${info.size[1]} px`)),
        h("td", null, lensWords(info), h("br"), h("small.soft", null, info.params.filter(([name]) => !/^(f|fx|fy|cx|cy|w|h)$/.test(name)).map(([name, value]) => `${name} ${Dom.measure(value)}`).join(", "))),
        h("td.number", null, count(uses[lens])));
    }, 8);
    return [h("table", null, h("thead", null, head), body), more];
  }
  function lensWords(lens) {
    const parts = [];
    if (lens.focal_px) parts.push(`focal length ${count(lens.focal_px)}\u202fpx`);
    if (lens.field_of_view_deg) parts.push(`${Math.round(lens.field_of_view_deg)}° field of view`);
    return parts.join(", ");
  }

  function uncertaintyTable(photosOf) {
    const body = h("tbody");
    const order = photosOf.sort((a, b) => meta.photos[b].position_uncertainty - meta.photos[a].position_uncertainty || a - b);
    const [, more] = Dom.growing(body, order, (photo) => h("tr", null,
      h("td", null, h("a", { href: `#/photo/${photo}` }, Dom.shortName(photo))),
      h("td.number", null, Dom.measure(meta.photos[photo].position_uncertainty, meta.unit, 2)),
      h("td.number", null, meta.photos[photo].rotation_uncertainty_deg === null ? "" : `${Dom.measure(meta.photos[photo].rotation_uncertainty_deg, "", 2)}°`)), 15);
    return [h("table", null, h("thead", null, h("tr", null, h("th", { scope: "col" }, "Photo"), h("th.number", { scope: "col" }, meta.unit ? "Position" : "Position (model units)"), h("th.number", { scope: "col" }, "Direction"))), body), more];
  }

  function run() {
    const seconds = meta.seconds;
    return [
      h("h2", null, "Run"),
      seconds.length ? h("p.lead", null, `${duration(totalSeconds)} in total.`) : null,
      seconds.length ? part("Time by stage", null, h("div.bars", null, Charts.bars(seconds.map(([name, value]) => ({ name, value, text: duration(value) }))))) : null,
      meta.history.length ? part("Decisions", "a change is kept where the model then better predicts observations held out of it", h("ol.steps", null, meta.history.map(({ step, candidates, kept, why }) => h("li", null, h("div", null,
        h("p", null, step[0].toUpperCase() + step.slice(1), kept ? [": ", h("b", null, kept)] : null),
        candidates && candidates !== kept ? h("p", null, `Tried: ${candidates}.`) : null,
        why ? h("p", null, Dom.sentence(why)) : null))))) : null,
      meta.options.length ? part("Options", null, facts(meta.options.map(([name, value]) => [name, value === "" ? "not set" : value]))) : null,
      part("This page", null, h("p.soft", null, pageWords())),
    ];
  }
  function pageWords() {
    const parts = ["This file contains the whole report; it loads nothing from the network."];
    for (const info of meta.models) {
      const shown = Data.model(meta.models.indexOf(info)).points.length / 3;
      if (shown < info.num_points) parts.push(`Of the ${count(info.num_points)} points of ${info.name} an even sample of ${count(shown)} is shown.`);
    }
    const numPairs = Data.pairs.inliers.filter(Boolean).length;
    if (numPairs < meta.num_pairs) parts.push(`Of ${count(meta.num_pairs)} pairs the ${count(numPairs)} with most inliers are shown.`);
    parts.push("Keypoints without a point and match lines are even samples. The whole model is in sparse/ beside this page, in COLMAP's format.");
    return parts.join(" ");
  }

  return { summary, photos, matches, quality, run, pairCount, lensWords };
})();
