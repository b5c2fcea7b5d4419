"use strict";
// What became of the frames over time, on one canvas: a band of their status, points tracked, milliseconds.
const Plots = (() => {
  const [LEFT, RIGHT, BAND, MARKS, TITLE, PLOT, AXIS] = [38, 6, 16, 8, 19, 48, 20]; // px
  const HEIGHT = BAND + MARKS + 2 * (TITLE + PLOT) + AXIS + 8;
  const SEVERITY = { tracking: 0, starting: 1, coasting: 2, lost: 3 }; // of frames on one pixel the worst is shown
  const { info, times, statuses, points, milliseconds, count } = Frames;

  const length = Math.max(Frames.duration, Frames.step);
  const toX = (width) => (time) => LEFT + (time / length) * (width - LEFT - RIGHT);
  const toTime = (width, x) => ((x - LEFT) / (width - LEFT - RIGHT)) * length;

  function draw(canvas, width) {
    const context = Dom.sized(canvas, width, HEIGHT);
    context.font = `11px ${getComputedStyle(canvas).fontFamily}`;
    context.textBaseline = "middle";
    const x = toX(width);
    band(context, x);
    loops(context, x);
    let top = BAND + MARKS + TITLE;
    tracked(context, x, width, top);
    top += PLOT + TITLE;
    speed(context, x, width, top);
    axis(context, x, width, top + PLOT);
  }

  // Whether frames are missing before this one.
  const isGap = (row) => row > 0 && times[row] - times[row - 1] > 3 * Frames.step;

  // From where to where a frame is the nearest, but no farther than a usual step.
  function extent(row) {
    const half = (a, b) => Math.min((times[b] - times[a]) / 2, Frames.step);
    return [times[row] - (row ? half(row - 1, row) : 0), times[row] + (row < count - 1 ? half(row, row + 1) : 0)];
  }

  function band(context, x) {
    for (const status of Object.keys(SEVERITY)) {
      context.fillStyle = Colors.theme(status);
      for (const [first, last] of stretches(info.statuses.indexOf(status))) {
        const [left, right] = [extent(first)[0], extent(last)[1]].map((time) => Math.round(2 * x(time)) / 2);
        // What is wrong must be seen, however short it was.
        context.fillRect(left, 0, Math.max(right - left, SEVERITY[status] ? 2 : 0.5), BAND);
      }
    }
  }
  // First and last rows of frames of a status that follow each other without a gap.
  function stretches(status) {
    const found = [];
    for (let row = 0; row < count; row++) {
      if (statuses[row] !== status) continue;
      const before = found[found.length - 1];
      if (before && before[1] === row - 1 && !isGap(row)) before[1] = row;
      else found.push([row, row]);
    }
    return found;
  }

  // A mark below the band where a loop was closed.
  function loops(context, x) {
    context.fillStyle = Colors.theme("loop");
    for (const [, newer] of info.loops) {
      const place = x(times[Frames.keyframes[newer]]);
      context.beginPath();
      context.moveTo(place, BAND + 1);
      context.lineTo(place + 4.5, BAND + MARKS);
      context.lineTo(place - 4.5, BAND + MARKS);
      context.fill();
    }
  }

  function label(context, words, x, y, align) {
    context.textAlign = align;
    context.fillStyle = Colors.theme("soft");
    context.fillText(words, x, y);
  }
  function title(context, words, top) {
    label(context, words, LEFT, top - 8, "left");
  }
  function grid(context, width, y, words) {
    context.fillStyle = Colors.theme("line");
    context.fillRect(LEFT, Math.round(y), width - LEFT - RIGHT, 1);
    label(context, words, LEFT - 6, y, "right");
  }

  function tracked(context, x, width, top) {
    title(context, "Points tracked", top);
    const high = Charts.niceCeiling(Math.max(10, ...chunks(points, Math.max)));
    const y = (value) => top + PLOT * (1 - value / high);
    grid(context, width, top, Dom.count(high));
    grid(context, width, top + PLOT, "0");
    const line = new Path2D();
    for (const row of drawn(x, points)) {
      if (isGap(row)) {
        line.lineTo(x(times[row - 1]), y(0));
        line.lineTo(x(times[row]), y(0));
      }
      line.lineTo(x(times[row]), y(points[row]));
    }
    context.strokeStyle = Colors.theme("tracking");
    context.lineWidth = 1.4;
    context.lineJoin = "round";
    context.stroke(line);
    const area = new Path2D(line);
    area.lineTo(x(times[count - 1]), y(0));
    area.lineTo(x(times[0]), y(0));
    context.globalAlpha = 0.18;
    context.fillStyle = Colors.theme("tracking");
    context.fill(area);
    context.globalAlpha = 1;
  }

  // Rows that a line of these values needs: of many on one pixel the least and the greatest.
  function* drawn(x, values) {
    for (let row = 0; row < count;) {
      const column = Math.floor(x(times[row]));
      let [least, greatest, next] = [row, row, row];
      for (; next < count && Math.floor(x(times[next])) === column; next++) {
        if (values[next] < values[least]) least = next;
        if (values[next] > values[greatest]) greatest = next;
      }
      yield* [...new Set([row, least, greatest, next - 1])].sort((a, b) => a - b);
      row = next;
    }
  }

  // On a logarithmic scale: keyframes take longer than other frames by a factor.
  function speed(context, x, width, top) {
    title(context, "Milliseconds a frame", top);
    const low = Math.floor(Math.log10(Math.max(0.1, Math.min(...chunks(milliseconds, Math.min)))));
    const high = Math.max(Math.log10(Math.max(0.1, ...chunks(milliseconds, Math.max))) + 0.1, low + 1);
    const every = high - low > 3 ? 2 : 1;
    const y = (value) => top + PLOT * (1 - (Math.log10(Math.max(value, 10 ** low)) - low) / (high - low));
    for (let power = low; power <= high; power += every) grid(context, width, y(10 ** power), power < 0 ? String(10 ** power) : Dom.count(10 ** power));
    const side = count > 2000 ? 2 : 3;
    const dot = (row, size) => {
      context.beginPath();
      context.arc(x(times[row]), y(milliseconds[row]), size / 2, 0, 7);
      context.fill();
    };
    const square = (row) => context.fillRect(x(times[row]) - side / 2, y(milliseconds[row]) - side / 2, side, side);
    context.fillStyle = Colors.theme("tracking");
    for (let row = 0; row < count; row++) if (!Frames.keyframeOf.has(row)) square(row);
    context.fillStyle = Colors.theme("ink");
    for (const row of Frames.keyframes) dot(row, 5);
  }

  function axis(context, x, width, top) {
    const wanted = (length / (width - LEFT - RIGHT)) * 72;
    const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18000];
    const last = steps[steps.length - 1];
    const step = steps.find((size) => size >= wanted) || last * 2 ** Math.ceil(Math.log2(wanted / last));
    const places = step < 0.1 ? 2 : step < 1 ? 1 : 0;
    const start = Frames.isClock ? 0 : info.start_s;
    for (let k = Math.ceil(start / step - 1e-6); k * step <= start + length + 1e-6; k++) {
      const place = x(k * step - start);
      context.fillStyle = Colors.theme("line-strong");
      context.fillRect(Math.round(place), top + 1, 1, 5);
      const words = Frames.clock(k * step - start, places);
      if (place < width - 34) label(context, words, Math.max(place, LEFT), top + 14, place <= LEFT + 1 ? "left" : "center");
    }
    label(context, Frames.unit, width - RIGHT, top + 14, "right");
  }

  // The extreme of each thousand values: a call takes no more arguments than that.
  function chunks(values, extreme) {
    return Array.from({ length: Math.ceil(values.length / 1000) }, (_, i) => extreme(...values.subarray(1000 * i, 1000 * i + 1000)));
  }

  return { HEIGHT, draw, toX, toTime };
})();
