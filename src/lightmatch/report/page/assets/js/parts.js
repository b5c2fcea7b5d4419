"use strict";
// Parts of the panel that every page has.
const Parts = (() => {
  const { h } = Dom;
  const meta = Data.meta;
  const part = (title, note, ...children) => h("section.part", null, h("h3", null, title, note ? h("small", null, note) : null), ...children);
  const facts = (rows) => h("dl.facts", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
  const figures = (rows) => h("dl.figures", null, rows.filter(Boolean).map(([name, value, unit]) => h("div", null, h("dt", null, name), h("dd", null, unit === "°" ? value + unit : value, unit && unit !== "°" ? h("small", null, ` ${unit}`) : null))));

  function notes() {
    if (!meta.warnings.length && !meta.advice.length) return null;
    return h("div.notes", null,
      meta.warnings.map((text) => h("p.note", { role: "note" }, h("span.unseen", null, "Warning: "), Dom.sentence(text))),
      meta.advice.map((text) => h("p.note.calm", { role: "note" }, Dom.sentence(text))));
  }

  // click: what a click on the view does.
  function keys(click) {
    const key = (...names) => names.map((name, i) => [i ? " " : "", h("kbd", null, name)]);
    return h("dl.keys", null, [
      ["Drag", "rotate; with the right button or Shift, move; one finger rotates, two move and zoom"],
      ["Wheel", "zoom in, zoom out"],
      ["Click", click],
      [key("←", "→", "↑", "↓"), ["rotate; with ", h("kbd", null, "Shift"), ", move"]],
      [key("+", "−", "0"), "zoom in, zoom out, reset"],
      [key("[", "]"), "previous camera, next camera"],
      [key("Esc"), "clear the selection"],
    ].map(([dt, dd]) => h("div", null, h("dt", null, dt), h("dd", null, dd))));
  }

  return { part, facts, figures, notes, keys };
})();
