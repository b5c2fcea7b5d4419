"use strict";
// The page of a tracked camera: what came of it beside the view, and time below.
(() => {
  const { h, count, plural } = Dom;
  const { part, figures } = Parts;
  const { meta } = Data;
  const { info } = Frames;
  const content = document.getElementById("content");
  const wide = matchMedia("(min-width: 861px)");

  function summary() {
    const tracked = info.num_by_status[info.statuses.indexOf("tracking")];
    const headline = tracked === info.num_frames ? `All ${count(tracked)} frames are tracked` : `${count(tracked)} of ${count(info.num_frames)} frames are tracked`;
    const sentences = ["The blue line is the path of the camera, over all frames whose pose was measured; the cameras on it are keyframes."];
    if (info.loops.length) sentences.push("Green lines join the two keyframes of a closed loop.");
    if (Frames.isClock) sentences.push(`Times count from the first frame, at ${info.start_s}\u202fs.`);
    return [
      h("h2", null, headline),
      h("p.lead", null, sentences.join(" ")),
      figures(meta.figures.map(({ label, value, note }) => [label, value, note])),
      Parts.notes(),
      info.untracked.length ? part("Not tracked", plural(info.num_frames - tracked, "frame", "frames"), untracked()) : null,
      info.loops.length ? part("Loops closed", null, loops()) : null,
      part("Controls of the view", null, Parts.keys("a camera shows its keyframe and what it sees, a point the keyframes that see it")),
      part("This page", null, h("p.soft", null, pageWords())),
    ];
  }

  // A button that shows a moment.
  const jump = (row, keyframe, ...words) => h("li", null, h("button", { type: "button", onclick: () => {
    Timeline.choose(row, keyframe);
    if (!wide.matches) document.getElementById("stage").scrollIntoView({ block: "start" });
  } }, ...words));

  function untracked() {
    return Dom.growing(h("ul.moments"), info.untracked, (group) => jump(group.row, false,
      h("b", null, Frames.span(group.first_s, group.last_s)), `, ${plural(group.num_frames, "frame", "frames")}: ${group.reason || "no reason is known"}`), 12);
  }
  function loops() {
    const time = (keyframe) => Frames.moment(Frames.times[Frames.keyframes[keyframe]]);
    return Dom.growing(h("ul.moments"), info.loops, ([older, newer]) => jump(Frames.keyframes[newer], true,
      h("b", null, time(newer)), `: the place of ${time(older)}`), 12);
  }

  function pageWords() {
    const [model, words] = [Viewer.model, ["This file contains the whole report; it loads nothing from the network."]];
    words.push("The view has the points that two or more keyframes see.");
    if (model && model.points.length / 3 < model.numPoints) words.push(`Of these ${count(model.numPoints)} an even sample of ${count(model.points.length / 3)} is shown.`);
    if (Frames.count < info.num_frames) words.push(`Of ${count(info.num_frames)} frames the plots have an even sample of ${count(Frames.count)}.`);
    words.push("Every frame is in frames.jsonl beside this page, the path in trajectory.txt, and the map in sparse/, in COLMAP's format.");
    return words.join(" ");
  }

  function lines() {
    const center = (keyframe) => Array.from(Viewer.model.centers.subarray(3 * Viewer.model.cameraOf.get(keyframe), 3 * Viewer.model.cameraOf.get(keyframe) + 3));
    return [...Frames.path(), ...info.loops.map(([older, newer]) => ({ from: center(older), to: center(newer), color: "loop", width: 2 }))];
  }

  document.getElementById("title").textContent = meta.title;
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    content.focus();
  });
  Object.assign(Viewer.words, { photo: "keyframe", photos: "keyframes" });
  Viewer.choose((found) => {
    if (found && found.kind === "photo" && found.photo < Frames.keyframes.length) Timeline.choose(Frames.keyframes[found.photo], true);
    else {
      Timeline.choose(null);
      if (found) Viewer.show(found);
    }
  });
  Timeline.open(); // first: it leaves the view its height
  Viewer.open();
  Stage.tools([["Path", "showLines"]]);
  Viewer.setModel(0);
  Viewer.setLines(lines());
  content.append(...summary().flat().filter(Boolean));
  Stage.theme();
})();
