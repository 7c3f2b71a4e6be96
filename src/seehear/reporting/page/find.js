// Find: by name, by file, and by examples with ticks and crosses. From disk among the segments on the map, served in the whole run.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const SHOWN = 48;
  const WIDTH = 32; // numbers a vector
  const state = { words: "", like: [], unlike: [], by: "auto", called: "", file: null };

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  let known = null; // segments on the map, by row, and their vectors

  function open() {
    return (known ??= S.load("map").then((map) => {
      const columns = { ...map.segments, labels: {} };
      columns.row = [...new Int32Array(bytes(map.segments.row).buffer)];
      if (map.segments.class) columns.class = [...new Int32Array(bytes(map.segments.class).buffer)];
      for (const [name, text] of Object.entries(map.segments.labels)) columns.labels[name] = [...new Int32Array(bytes(text).buffer)];
      const vectors = Object.entries(map.vectors || {}).map(([modality, text]) => [modality, new Int8Array(bytes(text).buffer)]);
      const all = S.segments(columns);
      return { all, at: new Map(all.map((s, i) => [s.row, i])), vectors: Object.fromEntries(vectors) };
    }));
  }

  // Of what is like the examples, less what the counterexamples are: half their mean, or what is farthest from them comes first.
  function weights(vectors, at, like, unlike) {
    const sum = new Float32Array(WIDTH);
    for (const [rows, sign] of [[like, 1], [unlike, -0.5]]) for (const row of rows) if (at.has(row)) for (let d = 0; d < WIDTH; d++) sum[d] += (sign * vectors[at.get(row) * WIDTH + d]) / rows.length;
    const length = Math.hypot(...sum) || 1;
    return sum.map((x) => x / length);
  }

  function nearest({ all, at, vectors }) {
    const used = state.by === "auto" ? Object.keys(vectors) : [state.by];
    const scores = new Float32Array(all.length);
    for (const modality of used) {
      const rows = vectors[modality];
      const w = weights(rows, at, state.like, state.unlike);
      for (let i = 0; i < all.length; i++) {
        let dot = 0;
        let length = 0;
        for (let d = 0; d < WIDTH; d++) {
          const x = rows[i * WIDTH + d];
          dot += w[d] * x;
          length += x * x;
        }
        scores[i] += length ? dot / Math.sqrt(length) / used.length : -1;
      }
    }
    return [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b).slice(0, SHOWN).map((i) => all[i]);
  }

  function asked({ all, at }) {
    const body = JSON.stringify({ like: state.like, unlike: state.unlike, by: state.by });
    return fetch("search", { method: "POST", body, headers: { "Content-Type": "application/json", "X-Seehear-Token": S.data.session.token } })
      .then((answer) => answer.json().catch(() => ({ error: `Not found: the server answered ${answer.status}.` })))
      .then((answer) => (answer.error ? Promise.reject(new Error(answer.error)) : S.segments(answer)))
      .then((found) => found.map((s) => ({ ...s, class: at.has(s.row) ? all[at.get(s.row)].class : -1 })));
  }

  // What stands in a segment: its file, its class, and what its clusters are called and it is ticked as.
  function words(segment) {
    const called = Object.entries(segment.labels).map(([name, k]) => S.given(name, k));
    const ticked = Object.entries(S.ticks).map(([name, of]) => (of[segment.row] ? name : ""));
    return [segment.path || "", segment.class >= 0 ? S.className(segment.class) : "", ...called, ...ticked].join("\n").toLowerCase();
  }

  async function results() {
    const map = await open();
    if (state.file !== null) return map.all.filter((s) => s.path === state.file).sort((a, b) => a.start - b.start);
    if (state.like.length) return S.data.session ? asked(map) : nearest(map);
    const wanted = state.words.trim().toLowerCase();
    return map.all.filter((s) => (wanted ? words(s).includes(wanted) : s.key)); // some to begin with
  }

  // Under a name, ticks are kept with the run.
  function mark(segment, value, show) {
    const before = state.like.includes(segment.row) ? true : state.unlike.includes(segment.row) ? false : null;
    const now = before === value ? null : value;
    for (const [list, mine] of [["like", true], ["unlike", false]]) state[list] = state[list].filter((row) => row !== segment.row).concat(mine === now ? [segment.row] : []);
    if (state.called.trim()) S.tick(state.called, segment.row, now);
    if (state.file === null && state.like.length && !state.words) show();
  }

  function remember() {
    if (!state.called.trim()) return;
    for (const row of state.like) S.tick(state.called, row, true);
    for (const row of state.unlike) S.tick(state.called, row, false);
  }

  function result(segment, show) {
    const figure = S.tile(segment, { captions: true });
    const button = (value, sign, label) => {
      const chosen = state[value ? "like" : "unlike"].includes(segment.row);
      const text = `${label}: ${S.isolated(S.file(segment))}`;
      return S.el("button", { type: "button", class: "mark-button", "aria-pressed": String(chosen), "aria-label": text, title: label, onclick: () => (mark(segment, value, show), figure.replaceWith(result(segment, show))) }, sign);
    };
    figure.append(S.el("div", { class: "marks" }, button(true, "✓", "Like this"), button(false, "✗", "Not like this")));
    return figure;
  }

  // Links of a segment with a caption, anywhere on the page.
  S.ways = function (segment) {
    const ways = S.el("span", { class: "ways small" }, S.el("a", { href: `#find/like/${segment.row}` }, "Similar"));
    if (segment.path !== null) ways.append(S.el("a", { href: `#find/file/${encodeURIComponent(segment.path)}` }, "Same file"));
    return ways;
  };

  function said(found) {
    const where = S.data.session ? "in the whole run" : "among the segments on the map; seehear report RUN --serve searches the whole run";
    if (state.file !== null) return `${S.plural(found.length, "segment")} of this file, of those on the map.`;
    if (state.like.length) return `The ${S.number(found.length)} most like ${S.plural(state.like.length, "example")}${state.unlike.length ? ` and unlike ${S.plural(state.unlike.length, "other")}` : ""}, ${where}.`;
    return `${S.plural(found.length, "segment")}${state.words.trim() ? " of that name, on the map" : " to begin with"}.`;
  }

  function adopt([kind, value]) {
    if (kind === "like" && Number.isInteger(Number(value))) Object.assign(state, { like: [Number(value)], unlike: [], file: null, words: "" });
    if (kind === "file") Object.assign(state, { like: [], unlike: [], file: value, words: "" });
    if (kind === "name") {
      const rows = Object.entries(S.ticks[value] || {});
      Object.assign(state, { like: rows.filter(([, yes]) => yes).map(([row]) => Number(row)), unlike: rows.filter(([, yes]) => !yes).map(([row]) => Number(row)), called: value, file: null, words: "" });
    }
    if (kind) history.replaceState(null, "", "#find");
  }

  S.views.find = {
    title: "Find",
    render(panel, rest) {
      if (!S.data.report.spaces) return panel.append(S.unfinished());
      adopt(rest);
      const list = S.el("div", { class: "grid" });
      const count = S.el("p", { class: "small count", role: "status" });
      const head = S.el("div");
      const show = () => {
        S.stop();
        head.replaceChildren(state.file === null ? "" : S.el("h2", { tabindex: "-1" }, S.bdi(state.file)));
        clear.hidden = !state.like.length && !state.unlike.length && state.file === null && !state.words;
        count.textContent = "Searching …"; // the first time, a server opens the run's features
        results()
          .then((found) => {
            names.replaceChildren(...chips());
            list.replaceChildren(...found.slice(0, SHOWN).map((s) => result(s, show)));
            count.textContent = said(found) + (found.length > SHOWN ? ` The first ${SHOWN} are shown.` : "");
          })
          .catch((error) => (list.replaceChildren(), (count.textContent = error.message)));
      };
      const box = S.el("input", { type: "search", placeholder: "name, class or file", value: state.words });
      box.addEventListener("input", () => (Object.assign(state, { words: box.value, like: [], unlike: [], file: null }), show()));
      const called = S.el("input", { type: "text", maxlength: 80, dir: "auto", autocomplete: "off", placeholder: "such as rain" });
      called.value = state.called;
      called.addEventListener("change", () => ((state.called = called.value), remember(), names.replaceChildren(...chips())));
      const clear = S.el("button", { type: "button", onclick: () => (Object.assign(state, { like: [], unlike: [], file: null, words: "", called: "" }), (box.value = called.value = ""), show()) }, "Start anew");
      const chips = () => Object.keys(S.ticks).sort().map((name) => S.el("a", { class: "chip", href: `#find/name/${encodeURIComponent(name)}` }, S.bdi(name), ` ${S.number(Object.keys(S.ticks[name]).length)}`));
      const names = S.el("p", { class: "chips" }, chips());
      const modalities = new Set(S.data.report.spaces.map((space) => space.space));
      const by = [["auto", "both"], ["video", "what is seen"], ["audio", "what is heard"]].filter(([key]) => key === "auto" || modalities.has(key));
      panel.append(
        S.el("p", { class: "lead" }, "Search by name, or take any segment for an example; ✓ what is meant and ✗ what is not, and the search follows. Under a name, ticks are kept with the names, and become classes."),
        S.el("div", { class: "tools" }, S.el("label", { class: "field grow" }, S.el("span", {}, "Search"), box), S.choice("Compare", by, state.by, (value) => ((state.by = value), show())), S.el("label", { class: "field" }, S.el("span", {}, "Call what is ticked"), called), clear),
        names,
        S.saveBar(),
        head,
        count,
        list
      );
      S.walkable(list, ".tile");
      show();
    },
  };
})();
