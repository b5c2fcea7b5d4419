"use strict";
// Colours of the theme, read from the styles, and ramps for numbers.
const Colors = (() => {
  const probe = document.createElement("span");
  probe.hidden = true;
  document.body.append(probe);

  function theme(name) {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  }
  // [r, g, b], 0…255
  const channels = (name) => theme(name).match(/[\d.]+/g).slice(0, 3).map(Number);

  // Blue is good, red is not; they differ in lightness too, for readers who do not see the hues.
  const ERROR = [[38, 84, 140], [74, 140, 180], [146, 192, 190], [236, 208, 128], [230, 142, 74], [196, 58, 44]];
  const TRACK = [[92, 62, 118], [62, 98, 150], [38, 140, 144], [84, 178, 112], [176, 208, 82], [246, 226, 98]];

  function at(ramp, share) {
    const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(place), ramp.length - 2);
    const t = place - low;
    return ramp[low].map((value, i) => Math.round(value + (ramp[low + 1][i] - value) * t));
  }
  const css = (rgb, alpha = 1) => `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]} / ${alpha})`;
  const gradient = (ramp) => `linear-gradient(90deg, ${ramp.map((rgb) => css(rgb)).join(", ")})`;
  // Match lines: hue by place in the first photo, never red, which is for errors.
  const place = (x, y, alpha = 1) => `hsl(${Math.round(38 + 200 * x)} 62% ${Math.round(56 + 14 * y)}% / ${alpha})`;

  return { theme, channels, ERROR, TRACK, at, css, gradient, place };
})();
