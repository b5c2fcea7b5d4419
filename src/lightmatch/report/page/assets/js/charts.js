"use strict";
// Histograms and bars.
const Charts = (() => {
  const { h, s } = Dom;
  const [WIDTH, HEIGHT, FOOT, HEAD] = [480, 120, 20, 14];

  // values → counts in bins of one width from 0 to `high`; the last takes what lies beyond.
  function binned(values, high, numBins) {
    const bins = new Array(numBins).fill(0);
    for (const value of values) bins[Math.min(numBins - 1, Math.floor((value / high) * numBins))]++;
    return bins;
  }

  function frame(label, ...children) {
    return s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT + FOOT + HEAD}`, role: "img", "aria-label": label }, ...children);
  }
  const text = (x, y, words, anchor = "middle", kind = null) => s("text", { x, y, "text-anchor": anchor, class: kind }, words);

  // Lengths in px, 0 to a little beyond what most have; a line marks the median.
  function errors(values, what) {
    const middle = Dom.median(values);
    const high = niceCeiling(Math.max(Dom.quantile(values, 0.985), 0.5));
    const bins = binned(values, high, 32);
    const top = Math.max(...bins, 1);
    const width = WIDTH / bins.length;
    const at = (value) => (Math.min(value, high) / high) * WIDTH;
    const beyond = Array.from(values).filter((value) => value > high).length;
    const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => share * high);
    return frame(
      `${what}: median ${Dom.pixels(middle)}, ${Dom.percent(0.95)} below ${Dom.pixels(Dom.quantile(values, 0.95))}`,
      bins.map((count, i) => {
        const height = (count / top) * HEIGHT;
        return s("rect", { class: "bar-fill", x: i * width + 0.75, y: HEAD + HEIGHT - height, width: width - 1.5, height, rx: 1 });
      }),
      s("path", { class: "axis", d: `M0 ${HEAD + HEIGHT + 0.5}H${WIDTH}` }),
      ticks.map((value, i) => text(at(value), HEAD + HEIGHT + 15, i === 4 ? `${+value.toFixed(2)} px${beyond ? " and more" : ""}` : +value.toFixed(2), i === 0 ? "start" : i === 4 ? "end" : "middle")),
      s("path", { class: "marker", d: `M${at(middle)} ${HEAD - 2}V${HEAD + HEIGHT}` }),
      text(Math.min(Math.max(at(middle), 42), WIDTH - 42), HEAD - 5, `median ${middle.toFixed(2)}`, "middle", "marker-text"),
    );
  }

  // Whole numbers from 2 on: how many points are seen by so many photos.
  function counts(values, what) {
    const high = Math.max(8, Math.min(30, Dom.quantile(values, 0.99)));
    const bins = new Array(high - 1).fill(0);
    for (const value of values) bins[Math.min(Math.max(value, 2), high) - 2]++;
    const top = Math.max(...bins, 1);
    const width = WIDTH / bins.length;
    const every = Math.ceil(bins.length / 12);
    return frame(
      `${what}: mean ${Dom.mean(Array.from(values)).toFixed(2)}, median ${Dom.median(values)}`,
      bins.map((count, i) => {
        const height = (count / top) * HEIGHT;
        return s("rect", { class: "bar-fill", x: i * width + 1.5, y: HEAD + HEIGHT - height, width: width - 3, height, rx: 1 });
      }),
      s("path", { class: "axis", d: `M0 ${HEAD + HEIGHT + 0.5}H${WIDTH}` }),
      bins.map((count, i) => (i % every ? null : text((i + 0.5) * width, HEAD + HEIGHT + 15, i === bins.length - 1 ? `${i + 2}+` : i + 2))),
      bins.map((count, i) => (count && bins.length <= 14 ? text((i + 0.5) * width, HEAD + HEIGHT - (count / top) * HEIGHT - 4, Dom.count(count)) : null)),
    );
  }

  // rows: {name, value, text, href}
  function bars(rows, high) {
    const top = high || Math.max(...rows.map((row) => row.value), 1e-9);
    return rows.map((row) => {
      const parts = [
        h("span.bar-name", null, row.name),
        h("span.track", null, h("i", { style: { width: `${(100 * Math.min(row.value, top)) / top}%` } })),
        h("span.value", null, row.text),
      ];
      return row.href ? h("a", { href: row.href }, ...parts) : h("div.bar-row", null, ...parts);
    });
  }

  function ramp(colors, low, high) {
    return h("span.scale", null, low, h("span.ramp", { style: { background: Colors.gradient(colors) } }), high);
  }

  function niceCeiling(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 1.5, 2, 3, 4, 5, 8, 10].map((k) => k * power).find((limit) => limit >= value);
  }

  return { errors, counts, bars, ramp, niceCeiling };
})();
