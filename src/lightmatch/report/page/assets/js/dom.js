"use strict";
// Elements and words. Text enters the page as text nodes only, so that no name can become markup.
const Dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, props, children) {
    for (const [key, value] of Object.entries(props || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }
  // h("a.tile", {href: …}, "text", child, …)
  function h(what, props, ...children) {
    const [tag, ...classes] = what.split(".");
    const element = document.createElement(tag);
    if (classes.length) element.className = classes.join(" ");
    return fill(element, props, children);
  }
  function s(tag, props, ...children) {
    return fill(document.createElementNS(SVG, tag), props, children);
  }

  const icon = (path, size = 18) => s("svg", { viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true" }, s("path", { d: path }));
  const ICONS = {
    back: "M15 5l-7 7 7 7",
    home: "M4 12a8 8 0 1 0 2.6-5.9M4 4.5v4.2h4.2",
    settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.8v4.4M9 14.8v4.4",
    close: "M6 6l12 12M18 6L6 18",
    enlarge: "M14 4h6v6M20 4l-7 7M10 20H4v-6M4 20l7-7",
    eye: "M2.5 12S6 5.5 12 5.5 21.5 12 21.5 12 18 18.5 12 18.5 2.5 12 2.5 12zM12 9.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6z",
  };

  const THIN = "\u202f";
  const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
  const count = (value) => plain.format(value);
  const plural = (value, one, many) => `${count(value)} ${value === 1 ? one : many}`;
  const pixels = (value) => `${value.toFixed(2)}${THIN}px`;
  const percent = (value) => `${Math.round(100 * value)}${THIN}%`;
  // So many digits as matter, for lengths of any size.
  function measure(value, unit = "", digits = 3) {
    const size = Math.abs(value);
    const text = size === 0 ? "0" : size >= 1e5 || size < 1e-4 ? value.toExponential(1) : String(+value.toPrecision(digits));
    const signed = text.replace("-", "\u2212").replace("e+", "e");
    return unit ? `${signed}${THIN}${unit}` : signed;
  }
  // With so many decimals, for places: these may be far from the origin.
  const fixed = (value, decimals) => (+value.toFixed(decimals) || 0).toFixed(decimals).replace("-", "\u2212");
  function duration(seconds) {
    if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)}${THIN}s`;
    const whole = Math.round(seconds);
    const minutes = Math.floor(whole / 60);
    if (minutes < 60) return `${minutes}${THIN}min ${whole % 60}${THIN}s`;
    return `${Math.floor(minutes / 60)}${THIN}h ${minutes % 60}${THIN}min`;
  }

  const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "");
  const shortName = (photo) => Data.meta.photos[photo].name.split("/").pop();
  function fullName(photo) {
    const name = Data.meta.photos[photo].name;
    const cut = name.lastIndexOf("/") + 1;
    return cut ? [h("span.name-folder", null, name.slice(0, cut)), name.slice(cut)] : [name];
  }
  function thumb(photo, alt = "") {
    const source = Data.thumbnail(photo);
    return source
      ? h("img.thumb", { src: source, alt, loading: "lazy", decoding: "async" })
      : h("span.thumb.blank", null, "no picture");
  }

  // A row of buttons of which one is pressed.
  function choice(label, options, current, onchange) {
    const group = h("div.choice", { role: "group", "aria-label": label });
    const buttons = options.map(([value, text]) =>
      h("button", {
        type: "button",
        "aria-pressed": String(value === current),
        "data-value": value,
        onclick: () => {
          buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.value === value)));
          onchange(value);
        },
      }, text));
    group.append(...buttons);
    return group;
  }
  function check(label, on, onchange) {
    return h("label.check", null, h("input", { type: "checkbox", checked: on, onchange: (event) => onchange(event.target.checked) }), label);
  }
  // The first that can be used in an element, else the element itself.
  function focus(element) {
    const target = element.querySelector("a:not([aria-hidden]), button") || element;
    if (target.tabIndex < 0) target.tabIndex = -1; // now scripts can focus it
    target.focus();
  }
  // The first items of a long list, and a button for more.
  function growing(list, items, build, step) {
    let shown = 0;
    const more = h("button.button.more", { type: "button", onclick: () => grow() });
    const grow = () => {
      const first = shown;
      list.append(...items.slice(shown, shown + step).map(build));
      shown = Math.min(items.length, shown + step);
      more.textContent = `Show ${Math.min(step, items.length - shown)} more of ${count(items.length - shown)}`;
      more.hidden = shown >= items.length;
      if (first) focus(list.children[first]);
    };
    grow();
    return [list, more];
  }

  // A canvas in CSS pixels, sharp on any screen.
  function sized(canvas, width, height) {
    const ratio = Math.min(window.devicePixelRatio || 1, 2.5);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }
  // Calls `draw` now, and when the element's width or the colours change, for as long as it is on the page.
  function drawn(element, draw) {
    let width = 0;
    const again = () => {
      if (element.clientWidth && element.clientWidth !== width) {
        width = element.clientWidth;
        draw(width);
      }
    };
    new ResizeObserver(again).observe(element);
    element.dataset.drawn = "";
    element.addEventListener("colours", () => draw(width || element.clientWidth));
  }
  function recolor() {
    for (const element of document.querySelectorAll("[data-drawn]")) element.dispatchEvent(new Event("colours"));
  }

  const median = (values) => quantile(values, 0.5);
  function quantile(values, share) {
    if (!values.length) return 0;
    const sorted = Float32Array.from(values).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  }
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0);

  return { h, s, icon, ICONS, count, plural, pixels, percent, measure, fixed, duration, sentence, shortName, fullName, thumb, choice, check, growing, sized, drawn, recolor, median, quantile, mean };
})();
