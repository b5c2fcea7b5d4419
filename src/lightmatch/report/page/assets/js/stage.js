"use strict";
// What is set with buttons over the view, and the colours of the page.
const Stage = (() => {
  const { h } = Dom;

  function theme() {
    const button = document.getElementById("theme");
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
    const changed = () => {
      button.setAttribute("aria-pressed", String(isDark()));
      Viewer.recolor();
      Dom.recolor();
    };
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      changed();
    });
    system.addEventListener("change", changed);
    button.setAttribute("aria-pressed", String(isDark()));
  }

  // more: [label, key of the view's style] of further things to show or hide.
  function tools(more = []) {
    const { style } = Viewer;
    const legend = document.getElementById("legend");
    const showLegend = () => {
      legend.hidden = style.colorBy === "photo" || !Viewer.model;
      if (legend.hidden) return;
      const { ramp, low, high, label, unit } = Viewer.scale();
      const round = (value) => (unit ? `${+value.toFixed(2)} ${unit}` : Math.round(value));
      legend.replaceChildren(label, h("span.ramp", { style: { background: Colors.gradient(ramp) } }), h("span.ramp-ends", null, h("span", null, round(low)), h("span", null, `${round(high)} or more`)));
    };
    const slider = (label, key) => h("label", null, label, h("input", { type: "range", min: -1, max: 1, step: 0.05, value: 0, oninput: (event) => Viewer.set({ [key]: 4 ** Number(event.target.value) }) }));
    const toggle = (label, key) => Dom.check(label, style[key], (on) => Viewer.set({ [key]: on }));
    const settings = h("div", { id: "settings", hidden: true, role: "group", "aria-label": "Settings of the view" },
      slider("Size of points", "pointScale"),
      slider("Size of cameras", "cameraScale"),
      h("div.checks", null, toggle("Points", "showPoints"), toggle("Cameras", "showCameras"), toggle("Photos", "showPhotos"), toggle("Ground", "showGround"), more.map(([label, key]) => toggle(label, key))));
    const gear = h("button.float.icon", { type: "button", "aria-label": "Settings of the view", "aria-expanded": "false", "aria-controls": "settings", onclick: () => open(settings.hidden) }, Dom.icon(Dom.ICONS.settings));
    const open = (on) => {
      settings.hidden = !on;
      gear.setAttribute("aria-expanded", String(on));
    };
    settings.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      open(false);
      gear.focus();
    });
    document.getElementById("canvas").addEventListener("pointerdown", () => open(false));
    document.getElementById("tools").append(
      Dom.choice("Colour of points", [["photo", "Photo"], ["error", "Error"], ["track", "Track length"]], style.colorBy, (colorBy) => {
        Viewer.set({ colorBy });
        showLegend();
      }),
      h("div.tool-end", null, settings,
        h("button.float.icon", { type: "button", "aria-label": "Reset the view", title: "Reset the view", onclick: Viewer.reset }, Dom.icon(Dom.ICONS.home)),
        gear));
    return showLegend;
  }

  return { theme, tools };
})();
