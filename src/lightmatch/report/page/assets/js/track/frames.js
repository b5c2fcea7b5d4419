"use strict";
// The frames of a tracked camera: when they were, what became of each, and where the camera was.
const Frames = (() => {
  const info = Data.json("track");
  const times = Data.array("frames.times"); // s from the first
  const statuses = Data.array("frames.statuses");
  const reasons = Data.array("frames.reasons");
  const points = Data.array("frames.points");
  const milliseconds = Data.array("frames.milliseconds");
  const measured = Data.array("measured.frames"); // rows of frames, ascending
  const centers = Data.array("measured.centers");
  const rotations = Data.array("measured.rotations");
  const keyframes = Data.array("keyframes.frames"); // of each photo of the page: its row
  const count = times.length;
  const CLOCK_S = 1e6; // times from here on are those of a clock: shown from the first frame
  const LONG_S = 600; // from here on shown in minutes

  const keyframeOf = new Map(Array.from(keyframes, (row, photo) => [row, photo]));
  const inOrder = Array.from(keyframes).sort((a, b) => a - b);
  const duration = count ? times[count - 1] - times[0] : 0;
  const steps = Array.from(times.subarray(1), (time, i) => time - times[i]).filter((step) => step > 0);
  const step = Dom.median(steps) || 1;
  const digits = Math.min(Math.max(Math.ceil(-Math.log10(step) - 1e-6), 1), 3);
  const isClock = Math.abs(info.start_s) >= CLOCK_S;
  const offset = isClock ? 0 : info.start_s;
  const isLong = offset + duration >= LONG_S;

  // The last of `rows`, ascending, that is at most `row`; -1 where none is.
  function lastUpTo(rows, row) {
    let [low, high] = [0, rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (rows[middle] <= row) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
  // The frame nearest to a time.
  function at(time) {
    const after = Math.min(lastUpTo(times, time) + 1, count - 1);
    const before = Math.max(after - 1, 0);
    return time - times[before] <= times[after] - time ? before : after;
  }

  // A time in words, without its unit where it is in minutes: 12.3 or 14:03.2
  function clock(time, places = digits) {
    const shown = offset + time;
    if (!isLong) return shown.toFixed(places).replace("-", "\u2212");
    const scale = 10 ** places;
    const whole = Math.round(shown * scale);
    const seconds = ((whole % (60 * scale)) / scale).toFixed(places);
    return `${Math.floor(whole / (60 * scale))}:${seconds.padStart(places ? places + 3 : 2, "0")}`;
  }
  const unit = isLong ? "min" : "s";
  const moment = (time) => `${clock(time)}\u202f${unit}`;
  const span = (first, last) => (clock(first) === clock(last) ? moment(first) : `${clock(first)}–${moment(last)}`);

  const status = (row) => info.statuses[statuses[row]];
  // Where the camera was at a frame, or, where that is not known, at the last one before with a pose, if there is one.
  function pose(row) {
    const place = lastUpTo(measured, row);
    if (place < 0) return null;
    return { exact: measured[place] === row, center: centers.subarray(3 * place, 3 * place + 3), rotation: rotations.subarray(9 * place, 9 * place + 9) };
  }

  // The path, as lines of the view: faint over frames without a measured pose.
  function path() {
    return Array.from(measured.subarray(1), (row, i) => ({
      from: Array.from(centers.subarray(3 * i, 3 * i + 3)),
      to: Array.from(centers.subarray(3 * i + 3, 3 * i + 6)),
      color: "path",
      alpha: row - measured[i] === 1 ? 1 : 0.35,
      width: 2.5,
    }));
  }

  return {
    info, count, times, statuses, points, milliseconds, keyframes, keyframeOf, duration, step, isClock, unit,
    at, clock, moment, span, status, pose, path,
    isTracked: (row) => info.statuses[statuses[row]] === "tracking",
    reason: (row) => info.reasons[reasons[row]],
    keyframeBefore: (row) => keyframeOf.get(inOrder[lastUpTo(inOrder, row)]),
    nextKeyframe: (row, by) => inOrder[by > 0 ? lastUpTo(inOrder, row) + 1 : lastUpTo(inOrder, row - 1)],
  };
})();
