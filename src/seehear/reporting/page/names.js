// Names: what a person calls the clusters. Saved into the run where the page is served, downloaded where it is not.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const LONGEST = 80;
  const PER_PAGE = 24;
  const state = { page: 0, unnamed: false };
  let saved = "";

  const drafts = () => `seehear names ${S.data.report.run.digest} ${S.data.report.run.created}`;

  function asFile(from = S) {
    const names = {};
    for (const [clustering, of] of Object.entries(from.names)) {
      const kept = Object.entries(of).filter(([, name]) => name);
      if (kept.length) names[clustering] = Object.fromEntries(kept);
    }
    const ticks = Object.fromEntries(Object.entries(from.ticks || {}).filter(([, of]) => Object.keys(of).length));
    return Object.keys(ticks).length ? { format: 1, names, ticks } : { format: 1, names };
  }

  // Names from the run (served: as they are now), then what was typed here before and not saved.
  S.readNames = function () {
    const session = S.data.session;
    copy((session && session.names) || S.data.report.names);
    saved = JSON.stringify(asFile());
    try {
      const draft = JSON.parse(localStorage.getItem(drafts()) || "null");
      if (draft && draft.from === saved) copy(draft);
    } catch {
      // no storage here, or nothing sensible in it
    }
  };

  function copy({ names, ticks }) {
    [S.names, S.ticks] = [{}, Object.create(null)];
    for (const [clustering, of] of Object.entries(names)) S.names[clustering] = { ...of };
    for (const [name, of] of Object.entries(ticks || {})) S.ticks[name] = { ...of };
  }

  S.unsaved = () => JSON.stringify(asFile()) !== saved;

  function rename(clustering, cluster, name) {
    (S.names[clustering] ??= {})[cluster] = tidy(name);
    keep();
  }

  const tidy = (name) => name.replace(/\s+/g, " ").trim().slice(0, LONGEST);

  function keep() {
    try {
      localStorage.setItem(drafts(), JSON.stringify({ from: saved, names: S.names, ticks: S.ticks }));
    } catch {
      // only the draft is lost
    }
    for (const bar of document.querySelectorAll(".save-bar")) bar.replaceWith(saveBar());
  }

  // Whether a segment is called so: true, false, or null for nothing said.
  S.tick = function (name, row, value) {
    const of = (S.ticks[tidy(name)] ??= {});
    if (value === null) delete of[row];
    else of[row] = value;
    keep();
  };

  S.nameField = function (clustering, cluster, onchange) {
    const label = `Name of ${S.numbered(clustering, cluster)}`;
    const input = S.el("input", { type: "text", maxlength: LONGEST, "aria-label": label, placeholder: S.numbered(clustering, cluster), dir: "auto", autocomplete: "off", class: "name-input" });
    input.value = S.given(clustering, cluster);
    input.addEventListener("input", () => {
      rename(clustering, cluster, input.value);
      if (onchange) onchange();
    });
    return input;
  };

  function message(text) {
    for (const place of document.querySelectorAll(".save-bar .message")) place.textContent = text;
    S.say(text);
  }

  // What is there now, with what was changed here since this page read it.
  function merged(theirs) {
    const before = JSON.parse(saved);
    const mine = asFile();
    for (const part of ["names", "ticks"]) {
      const [was, is, now] = [before, mine, theirs].map((file) => (file[part] ??= {}));
      for (const key of new Set([...Object.keys(was), ...Object.keys(is)])) {
        const [old, own, of] = [was, is, now].map((some) => (Object.hasOwn(some, key) ? some[key] : (some[key] = {})));
        for (const one of new Set([...Object.keys(old), ...Object.keys(own)])) {
          if (old[one] === own[one]) continue;
          if (own[one] === undefined) delete of[one];
          else of[one] = own[one];
        }
      }
    }
    return theirs;
  }

  function save(_, tries = 3) {
    const session = S.data.session;
    const body = JSON.stringify(asFile());
    fetch("names", { method: "POST", body, headers: { "Content-Type": "application/json", "X-Seehear-Token": session.token, "X-Seehear-Version": session.version } })
      .then((answer) => answer.json().catch(() => ({ error: `Not saved: the server answered ${answer.status}.` })))
      .then((answer) => {
        if (answer.names && !answer.problem && tries) {
          const now = JSON.stringify(asFile(answer.names));
          copy(merged(answer.names));
          saved = now;
          session.version = answer.version;
          return save(_, tries - 1);
        }
        if (answer.error) return message(answer.problem || answer.error);
        session.version = answer.version;
        saved = body;
        try {
          localStorage.removeItem(drafts());
        } catch {
          // there was none
        }
        for (const bar of document.querySelectorAll(".save-bar")) bar.replaceWith(saveBar());
        message(`Saved to ${S.data.session.file}`);
      })
      .catch(() => message("Not saved: the server is gone. Start it again, or download the names."));
  }

  function download() {
    const url = URL.createObjectURL(new Blob([JSON.stringify(asFile(), null, 1) + "\n"], { type: "application/json" }));
    const link = S.el("a", { href: url, download: "names.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
    message("Downloaded names.json. Put it into the run's folder.");
  }

  function saveBar() {
    const session = S.data.session;
    const count = Object.values(asFile().names).reduce((sum, of) => sum + Object.keys(of).length, 0);
    const ticks = Object.values(S.ticks).reduce((sum, of) => sum + Object.keys(of).length, 0);
    const bar = S.el("div", { class: "save-bar" }, S.el("span", { class: "small" }, `${S.plural(count, "name")}${ticks ? `, ${S.plural(ticks, "tick")}` : ""}${S.unsaved() ? ", not all saved" : ""}`));
    if (session) bar.append(S.el("button", { type: "button", class: "main", onclick: save }, "Save to the run"));
    bar.append(S.el("button", { type: "button", class: session ? "" : "main", onclick: download }, "Download names.json"), S.el("span", { class: "message small" }, session && session.problem ? session.problem : ""));
    return bar;
  }

  S.saveBar = saveBar;

  S.views.names = {
    title: "Names",
    render(panel, [clustering]) {
      if (!S.data.report.spaces) return panel.append(S.unfinished());
      const space = S.shown(clustering);
      const segments = new Map(S.segments(space.segments).map((s) => [s.row, s]));
      const list = S.el("div", { class: "naming" });
      const pages = S.el("div");
      const show = () => {
        const cards = [...space.cards].sort((a, b) => b.size - a.size || a.cluster - b.cluster).filter((card) => !state.unnamed || !S.given(space.name, card.cluster));
        const total = Math.max(1, Math.ceil(cards.length / PER_PAGE));
        state.page = Math.min(state.page, total - 1);
        S.stop();
        list.replaceChildren(...cards.slice(state.page * PER_PAGE, (state.page + 1) * PER_PAGE).map((card) => row(space, card, segments)));
        pages.replaceChildren(
          S.pager(state.page, total, (to) => {
            state.page = to;
            show();
            list.querySelector("input")?.focus();
          })
        );
      };
      const only = S.el("input", { type: "checkbox", onchange: () => ((state.unnamed = only.checked), (state.page = 0), show()) });
      only.checked = state.unnamed;
      const where = S.data.session ? `Names are saved to ${S.data.session.file}.` : "From disk a page may write nothing: download names.json and put it into the run's folder, or let seehear report RUN --serve save it.";
      panel.append(
        S.el("p", { class: "lead" }, `Say what the clusters are. Enter goes to the next. ${where}`),
        S.el("div", { class: "tools" }, S.spaceChoice(space.name, (name) => ((state.page = 0), S.go("names", name))), S.el("label", { class: "check" }, only, "Only those without a name")),
        saveBar(),
        list,
        pages
      );
      list.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" || !event.target.matches("input")) return;
        const inputs = [...list.querySelectorAll("input")];
        (inputs[inputs.indexOf(event.target) + (event.shiftKey ? -1 : 1)] || event.target).focus();
      });
      S.walkable(list, ".tile");
      show();
    },
  };

  function row(space, card, segments) {
    const tiles = card.nearest.slice(0, 4).map((r) => S.tile(segments.get(r)));
    const about = [S.plural(card.size, "segment")];
    const chips = (card.classes || []).slice(0, 3).map(([c, n]) => S.el("span", { class: "chip" }, S.bdi(S.className(c)), ` ${S.percent(n / card.size)}`));
    return S.el(
      "div",
      { class: "name-row", role: "group", "aria-label": S.numbered(space.name, card.cluster) },
      S.el("div", { class: "tiles" }, tiles),
      S.el("div", { class: "name-text" }, S.nameField(space.name, card.cluster), S.el("p", { class: "small" }, S.el("a", { href: `#clusters/${space.name}/${card.cluster}` }, S.numbered(space.name, card.cluster)), ` · ${about.join(" · ")} `, chips))
    );
  }
})();
