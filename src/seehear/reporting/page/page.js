// The frame: head, tabs, theme, and which view stands behind the address (#view/more/...).
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const report = S.data.report;
  const content = document.getElementById("content");
  const tabs = document.getElementById("tabs");
  const THEMES = ["system", "light", "dark"];

  if (!report) {
    content.append(S.empty("The data of this page are missing", "data/report.js could not be read. Build the report again: seehear report RUN"));
    return;
  }

  function theme(chosen) {
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    const button = document.getElementById("theme");
    button.textContent = `Theme: ${chosen}`;
    button.onclick = () => {
      const next = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
      try {
        localStorage.setItem("seehear theme", next);
      } catch {
        // it lasts as long as the page
      }
      theme(next);
    };
    if (S.onRedraw) S.onRedraw();
  }

  function stored() {
    try {
      const found = localStorage.getItem("seehear theme");
      return THEMES.includes(found) ? found : "system";
    } catch {
      return "system";
    }
  }

  function head() {
    const run = report.run;
    document.title = `${run.name} · seehear report`;
    document.getElementById("title").replaceChildren(S.bdi(run.name));
    const facts = [run.made, S.plural(run.rows, "segment")];
    if (run.videos !== null) facts.push(`${S.plural(run.videos, "video")}, ${run.hours >= 2 ? `${S.number(Math.round(run.hours))} hours` : S.plural(Math.max(1, Math.round(run.hours * 60)), "minute")}`);
    const rounds = report.health.rounds.length;
    if (report.health.verdict.kind !== "not trained") facts.push(report.health.finished ? S.plural(rounds, "round") : `${rounds} of ${S.plural(run.rounds, "round")} done`);
    facts.push(run.created.slice(0, 10));
    document.getElementById("facts").textContent = facts.join(" · ");
    document.getElementById("notes").append(...report.notes.map((text) => S.el("p", { class: "note" }, text)));
  }

  function foot() {
    const s = report.sampling;
    const parts = [];
    if (report.spaces) {
      parts.push(`${S.number(s.previews)} of ${S.number(report.run.rows)} segments have a preview (2 seconds from the middle)`);
      const failed = Object.entries(s.failed).map(([reason, n]) => `${S.number(n)} ${reason}`);
      if (failed.length) parts.push(`previews that could not be cut: ${failed.join(", ")}`);
      const listed = Object.entries(s.listed).filter(([name, n]) => n < s.labelled[name]);
      parts.push(listed.length ? `members listed: ${listed.map(([name, n]) => `${S.number(n)} of ${S.number(s.labelled[name])} in ${name}`).join(", ")}` : "all members are listed");
      parts.push(`${S.number(s.points)} of ${S.number(report.run.rows)} segments are on the map`);
    }
    const what = parts.length ? `${parts.join("; ")}. ` : "";
    document.getElementById("foot").textContent = `${what}Built ${report.created.replace("T", " ").replace("Z", " UTC")} by seehear ${report.seehear}. This page asks nothing of any network.`;
  }

  function current() {
    const [view, ...rest] = location.hash.slice(1).split("/").map(decode);
    return view in S.views ? [view, rest] : ["health", []];
  }

  function decode(part) {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  }

  let shown = null;
  function render() {
    const [view, rest] = current();
    S.stop();
    S.onEscape = S.onRedraw = null;
    for (const tab of tabs.children) {
      const chosen = tab.dataset.view === view;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      if (chosen) tabs.scrollLeft = Math.min(tabs.scrollLeft, tab.offsetLeft - 16) + Math.max(0, tab.offsetLeft + tab.offsetWidth + 16 - tabs.scrollLeft - tabs.clientWidth);
    }
    const panel = S.el("div", { role: "tabpanel", id: "panel", "aria-labelledby": `tab-${view}` });
    content.replaceChildren(panel);
    S.views[view].render(panel, rest);
    if (shown !== null && shown !== location.hash) {
      scrollTo({ top: 0 });
      if (rest.length > 1) panel.querySelector("h2")?.focus();
    }
    shown = location.hash;
  }

  function makeTabs() {
    for (const [view, { title }] of Object.entries(S.views))
      tabs.append(S.el("button", { type: "button", role: "tab", id: `tab-${view}`, "data-view": view, "aria-controls": "panel", onclick: () => S.go(view) }, title));
    tabs.addEventListener("keydown", (event) => {
      const all = [...tabs.children];
      const at = all.indexOf(document.activeElement);
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      const next = all[(to + all.length) % all.length];
      next.focus();
      S.go(next.dataset.view);
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    if (S.isPlaying()) S.stop();
    else if (S.onEscape) S.onEscape();
  });
  addEventListener("hashchange", render);
  addEventListener("resize", () => S.onRedraw && S.onRedraw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => S.onRedraw && S.onRedraw());
  addEventListener("beforeunload", (event) => S.data.session && S.unsaved() && event.preventDefault());
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    content.focus();
  });

  S.readNames();
  theme(stored());
  head();
  makeTabs();
  foot();
  render();
})();
