"use strict";
// The address after # says what is shown; links and clicks change it, so that back and forward work.
(() => {
  const { h } = Dom;
  const meta = Data.meta;
  const content = document.getElementById("content");
  const spoken = document.getElementById("spoken");
  const wide = matchMedia("(min-width: 861px)");
  const TABS = [["summary", "Summary"], ["photos", "Photos"], ["matches", "Matches"], ["quality", "Quality"], ["run", "Run"]];
  const PARENT = { photo: "photos", pair: "matches", point: "summary" };
  const NUMBERS = { photo: 1, pair: 2, point: 1, model: 1 }; // that an address has after the name
  const BACK = { photos: "Photos", matches: "Matches", summary: "Summary" };
  let trail = []; // addresses on the way here, for the link back
  let scrolled = new Map();

  function models() {
    const select = document.getElementById("model");
    if (meta.models.length < 2) return select;
    document.querySelector(".model-choice").hidden = false;
    select.append(...meta.models.map((info, number) => h("option", { value: number }, `${info.name} (${Dom.plural(Data.model(number).cameras.length, "photo", "photos")})`)));
    select.addEventListener("change", () => (location.hash = `#/model/${select.value}`));
    return select;
  }

  // "#/pair/3/7" → ["pair", 3, 7]; the summary where it makes no sense.
  function parsed() {
    const [name, ...numbers] = location.hash.replace(/^#\/?/, "").split("/");
    const args = numbers.map(Number);
    const known = Object.hasOwn(NUMBERS, name) ? args.length === NUMBERS[name] : TABS.some(([tab]) => tab === name) && !args.length;
    return known && args.every((value) => Number.isInteger(value) && value >= 0) ? [name, ...args] : ["summary"];
  }

  function build(name, args) {
    if (name === "photo") return Details.photo(args[0]);
    if (name === "pair") return Details.pair(args[0], args[1]);
    if (name === "point") return Details.point(args[0]);
    return Overview[name]();
  }

  function choiceOf(name, args) {
    if (name === "photo") return { kind: "photo", photo: args[0] };
    if (name === "pair") return { kind: "pair", photo0: args[0], photo1: args[1] };
    if (name === "point") return { kind: "point", point: args[0] };
    return { kind: "none" };
  }

  let first = true;
  function route() {
    let [name, ...args] = parsed();
    Lightbox.close();
    if (name === "model") {
      const number = meta.models[args[0]] ? args[0] : 0;
      Viewer.setModel(number);
      showLegend();
      modelSelect.value = String(number);
      history.replaceState(null, "", "#/summary");
      trail = [];
      [name, args] = ["summary", []];
    }
    let parts = build(name, args);
    if (!parts) [name, args, parts] = ["summary", [], Overview.summary()];
    const address = `#/${[name, ...args].join("/")}`;
    const place = trail.indexOf(address);
    trail = name in PARENT ? (place >= 0 ? trail.slice(0, place + 1) : [...trail, address]) : [address];
    const scroller = wide.matches ? content : document.scrollingElement;
    const detail = name in PARENT;
    content.replaceChildren(h(detail ? "div.detail" : "div", null, ...(detail ? [backLink(name)] : []), ...parts.flat().filter(Boolean)));
    document.querySelectorAll("#tabs a").forEach((link) => {
      const current = link.dataset.tab === (PARENT[name] || name);
      if (current) link.setAttribute("aria-current", detail ? "true" : "page");
      else link.removeAttribute("aria-current");
    });
    const heading = content.querySelector("h2").textContent;
    document.title = name === "summary" ? `${meta.title} · lightmatch` : `${heading} · ${meta.title} · lightmatch`;
    Viewer.show(choiceOf(name, args));
    scroller.scrollTop = wide.matches ? scrolled.get(address) || 0 : scroller.scrollTop;
    if (!first) {
      spoken.textContent = heading;
      if (document.activeElement !== document.getElementById("canvas")) {
        content.focus({ preventScroll: true });
        if (!wide.matches) scrollPhone(detail);
      }
    }
    first = false;
    current = address;
  }
  let current = "";

  // On a phone the panel is below the cloud: what was chosen comes to where it can be seen.
  function scrollPhone(detail) {
    const tabs = document.getElementById("tabs");
    if (detail || tabs.getBoundingClientRect().top <= 0) tabs.scrollIntoView({ block: "start" });
  }

  function backLink(name) {
    const before = trail[trail.length - 2];
    if (!before) return h("a.back", { href: `#/${PARENT[name]}` }, Dom.icon(Dom.ICONS.back, 15), BACK[PARENT[name]]);
    const [kind, number] = before.slice(2).split("/");
    const label = kind === "photo" ? Dom.shortName(Number(number)) : kind === "pair" ? "Pair" : kind === "point" ? "Point" : TABS.find(([tab]) => tab === kind)[1];
    return h("a.back", { href: before }, Dom.icon(Dom.ICONS.back, 15), label);
  }

  document.getElementById("title").textContent = meta.title;
  document.getElementById("tabs").append(...TABS.map(([tab, label]) => h("a", { href: `#/${tab}`, "data-tab": tab }, label)));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    content.focus();
  });
  content.addEventListener("scroll", () => scrolled.set(current, content.scrollTop), { passive: true });
  Viewer.choose((found) => {
    if (!found) location.hash = current.match(/photo\/|pair|point/) ? "#/summary" : location.hash;
    else location.hash = found.kind === "photo" ? `#/photo/${found.photo}` : `#/point/${found.point}`;
  });
  Viewer.open();
  const showLegend = Stage.tools();
  const modelSelect = models();
  if (meta.models.length) Viewer.setModel(0);
  Stage.theme();
  addEventListener("hashchange", route);
  route();
})();
