"use strict";
// The frame that is pointed at or chosen: in words, on the plots, and in the view.
const Timeline = (() => {
  const { h, count, plural } = Dom;
  const { info } = Frames;
  const words = document.getElementById("frame");
  const plots = document.getElementById("plots");
  const canvas = plots.querySelector("canvas");
  const cursor = plots.querySelector(".cursor");
  let width = 0;
  let chosen = null; // rows of frames
  let pointed = null;

  const picture = h("img", { alt: "" });
  const text = h("div.words");
  words.append(picture, text);

  function facts(row) {
    const milliseconds = Frames.milliseconds[row];
    return [
      Frames.isTracked(row) ? plural(Frames.points[row], "point", "points") : null,
      `${milliseconds < 10 ? milliseconds.toFixed(1) : count(milliseconds)}\u202fms`,
      Frames.keyframeOf.has(row) ? "a keyframe" : null,
    ].filter(Boolean).join(" · ");
  }
  // Why there is no measured pose, and what the view shows then.
  function remark(row) {
    const [pose, isTracked] = [Frames.pose(row), Frames.isTracked(row)];
    if (pose?.exact) return isTracked ? "" : `${Dom.sentence(Frames.reason(row))} Its pose was found afterwards.`;
    const why = isTracked ? "Its pose is not in the final map." : Dom.sentence(Frames.reason(row));
    return `${why} ${pose ? "The view shows the last pose before." : "There is no pose before."}`;
  }

  function show() {
    const row = pointed ?? chosen;
    cursor.hidden = row === null;
    const before = Frames.keyframeBefore(row ?? 0) ?? 0;
    const source = Frames.keyframes.length ? Data.thumbnail(before) : null;
    picture.hidden = !source;
    if (source && picture.dataset.photo !== String(before)) {
      picture.src = source;
      picture.dataset.photo = before;
    }
    picture.classList.toggle("before", row === null || !Frames.keyframeOf.has(row));
    if (row === null) {
      text.replaceChildren(h("p.soft", null, "Point at a time, or use the arrow keys, to see what became of that frame."));
      Viewer.setPose(null);
      plots.setAttribute("aria-valuetext", "none");
      return;
    }
    const status = Frames.status(row);
    if (source) picture.alt = picture.title = `Keyframe of ${Frames.moment(Frames.times[Frames.keyframes[before]])}`;
    const parts = [Frames.moment(Frames.times[row]), info.names[row], status, facts(row)];
    text.replaceChildren(
      h("p", null, h("b", null, parts[0]), h("span.name", null, parts[1]), h("span.status", null, h("i.swatch", { style: { background: `var(--${status})` } }), status), h("span.soft", null, parts[3])),
      h("p.soft", null, remark(row)));
    cursor.style.transform = `translateX(${Plots.toX(width)(Frames.times[row])}px)`;
    plots.setAttribute("aria-valuenow", row + 1);
    plots.setAttribute("aria-valuetext", [...parts, remark(row)].join(", "));
    const pose = Frames.pose(row);
    Viewer.setPose(pose && { ...pose, alpha: pose.exact ? 1 : 0.45 });
  }

  function point(row) {
    if (row === pointed) return;
    pointed = row;
    show();
  }
  // row: null for none. keyframe: whether the points that it sees are marked too.
  function choose(row, keyframe = false) {
    [chosen, pointed] = [row, null];
    const photo = row === null ? undefined : Frames.keyframeOf.get(row);
    Viewer.show(keyframe && photo !== undefined ? { kind: "photo", photo } : { kind: "none" });
    show();
  }

  const rowAt = (event) => {
    const time = Plots.toTime(width, event.clientX - plots.getBoundingClientRect().left);
    return Frames.at(Math.min(Math.max(time, 0), Frames.duration));
  };
  plots.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    if (event.pointerType !== "touch") plots.setPointerCapture(event.pointerId);
    choose(rowAt(event));
  });
  plots.addEventListener("pointermove", (event) => {
    if (event.pointerType === "touch" || event.buttons & 1) choose(rowAt(event));
    else point(rowAt(event));
  });
  plots.addEventListener("pointerleave", () => point(null));
  plots.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const last = Frames.count - 1;
    const now = pointed ?? chosen;
    const far = Math.max(1, Math.round(Frames.count / 10));
    const moves = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: far, PageDown: -far };
    if (event.key in moves) choose(now === null ? (moves[event.key] > 0 ? 0 : last) : Math.min(Math.max(now + moves[event.key], 0), last));
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(last);
    else if (event.key === "[" || event.key === "]") {
      const by = event.key === "]" ? 1 : -1;
      choose(Frames.nextKeyframe(now ?? (by > 0 ? -1 : Frames.count), by) ?? now);
    } else if (event.key === "Escape") choose(null);
    else return;
    event.preventDefault();
  });

  function key() {
    const item = (mark, label) => h("li", null, mark, label);
    const statuses = info.statuses.map((status, i) => item(h("i.swatch", { style: { background: `var(--${status})` } }), [`${status} `, h("span.soft", null, count(info.num_by_status[i]))]));
    document.getElementById("key").append(...statuses,
      item(h("i.dot"), "keyframe"),
      ...(info.loops.length ? [item(h("i.loop"), "loop closed")] : []));
  }

  function open() {
    plots.setAttribute("aria-valuemin", 1);
    plots.setAttribute("aria-valuemax", Frames.count);
    plots.setAttribute("aria-valuenow", 1);
    canvas.style.height = `${Plots.HEIGHT}px`;
    key();
    Dom.drawn(plots, (now) => {
      width = now;
      Plots.draw(canvas, width);
      show();
    });
    show();
  }

  return { open, choose, get row() { return pointed ?? chosen; } };
})();
