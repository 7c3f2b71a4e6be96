// The map: features in two dimensions on a canvas, coloured by cluster, class or label; a dot shows its segment.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const { bytes, unpack, gridOf, boundsOf, colourOf, nearest, towards } = S.points;
  const NEAR = 12; // pixels
  const state = { modality: "video", colour: null, round: null, only: null };
  let map = null;

  S.views.map = {
    title: "Map",
    render(panel, [modality]) {
      if (!S.data.report.spaces) return panel.append(S.unfinished());
      if (modality === "audio" || modality === "video") state.modality = modality;
      S.load("map")
        .then((raw) => show(panel, (map ??= unpack(raw))))
        .catch((error) => panel.append(S.el("p", { class: "plain" }, error.message)));
    },
  };

  function segment(i) {
    const s = map.segments;
    const one = { row: [s.row[i]], key: [s.key[i]], labels: {} };
    for (const name of Object.keys(s.labels)) one.labels[name] = [s.labels[name][i]];
    for (const name of ["failed", "path", "start", "seconds", "class"]) if (s[name]) one[name] = [s[name][i]];
    return S.segments(one)[0];
  }

  function colourings() {
    const options = S.data.report.spaces.map((space) => [`cluster ${space.name}`, `${S.title(space.name)} cluster`]);
    if (map.segments.class) options.unshift(["class", "Class"]);
    for (const { name } of S.data.report.spaces)
      if (roundsWith(name).length) options.push([`round ${name}`, `${S.title(name)} label by round`]);
    return options;
  }

  // In alternating order the first round has labels of one space alone.
  function roundsWith(space) {
    const first = S.data.report.health.rounds.find((r) => space in r.clusters);
    return first ? S.data.report.map.rounds.filter((number) => number >= first.round) : [];
  }

  function valuesOf(colour) {
    const [kind, name] = colour.split(" ");
    if (kind === "class") return Promise.resolve(map.segments.class);
    if (kind === "cluster") return Promise.resolve(map.segments.labels[name]);
    return S.load(`rounds/${state.round}`).then((labels) => (map.rounds[`${state.round} ${name}`] ??= bytes(labels[name], Int32Array)));
  }

  function wordOf(colour, k) {
    const [kind, name] = colour.split(" ");
    if (k < 0) return kind === "class" ? "no class" : "no label";
    if (kind === "class") return S.isolated(S.className(k));
    return kind === "cluster" ? S.calledText(name, k) : `Label ${k}`;
  }

  function show(panel) {
    const about = S.data.report.map;
    const options = colourings();
    if (!options.some(([value]) => value === state.colour)) state.colour = map.segments.class ? "class" : `cluster ${S.shown().name}`;
    const canvas = S.el("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": "Map of segments", "aria-describedby": "map-help" });
    const legend = S.el("div", { class: "map-legend" });
    const card = S.el("div", { class: "map-card" }, S.el("p", { class: "small" }, "Point at a segment to see it, click to hear it."));
    const rounds = S.el("div", { class: "field" });
    const view = { panel, canvas, legend, card, at: -1, values: null, grid: null, xy: null };
    const explained = about.explained[state.modality];
    const method = about.projection === "pca" ? `two principal components, ${S.percent(explained)} of the variance` : "UMAP: neighbours are kept, distances between groups are not";
    const sampled = about.points < S.data.report.run.rows ? ` ${S.number(about.points)} of ${S.number(S.data.report.run.rows)} segments are shown.` : "";
    const recolour = () => {
      const [kind, name] = state.colour.split(" ");
      const those = kind === "round" ? roundsWith(name) : [];
      if (!those.includes(state.round)) state.round = those[those.length - 1] ?? state.round;
      rounds.replaceChildren(...(those.length ? [slider(those, recolour)] : []));
      valuesOf(state.colour).then((values) => {
        view.values = values;
        drawLegend(view);
        draw(view);
      });
    };
    panel.append(
      S.el("p", { class: "lead" }, `Each dot is a segment; dots that lie close are alike to the ${state.modality} encoder (${method}).${sampled}`),
      S.el(
        "div",
        { class: "tools" },
        S.choice("Encoder", [["video", "By sight"], ["audio", "By sound"]], state.modality, (value) => S.go("map", value)),
        S.select("Colour", options, state.colour, (value) => {
          state.colour = value;
          state.only = null;
          recolour();
        }),
        rounds
      ),
      S.el("div", { class: "map-view" }, S.el("div", { class: "map-box" }, canvas), S.el("div", { class: "map-side" }, card, legend)),
      S.el("p", { id: "map-help", class: "small" }, "Arrow keys go from a dot to the next in that direction, Enter plays it with sound, Escape lets go. A name in the list shows its dots alone.")
    );
    view.xy = map.positions[state.modality];
    view.grid = gridOf(view.xy);
    view.bounds = boundsOf(view.xy);
    listen(view);
    S.onRedraw = () => canvas.isConnected && draw(view);
    recolour();
  }

  function slider(rounds, onchange) {
    const text = S.el("span", {}, `Round ${state.round + 1}`);
    const input = S.el("input", { type: "range", min: 0, max: rounds.length - 1, step: 1 });
    input.value = rounds.indexOf(state.round);
    input.addEventListener("change", () => {
      state.round = rounds[Number(input.value)];
      onchange();
    });
    return S.el("label", { class: "field" }, text, input);
  }

  function drawLegend(view) {
    const counts = new Map();
    for (const k of view.values) counts.set(k, (counts.get(k) || 0) + 1);
    const order = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 60);
    const dark = isDark();
    const buttons = order.map(([k, n]) => {
      const dot = S.el("i", { class: "dot-key" });
      dot.style.background = colourOf(k, dark);
      const choose = () => {
        state.only = state.only === k ? null : k;
        drawLegend(view);
        draw(view);
      };
      return S.el("button", { type: "button", class: "key-button", "aria-pressed": String(state.only === k), onclick: choose }, dot, S.el("span", {}, wordOf(state.colour, k)), S.el("span", { class: "small" }, S.number(n)));
    });
    const more = counts.size > order.length ? [S.el("p", { class: "small" }, `and ${S.number(counts.size - order.length)} more`)] : [];
    view.legend.replaceChildren(...buttons, ...more);
  }

  function isDark() {
    return getComputedStyle(document.documentElement).colorScheme === "dark";
  }

  function place(view) {
    const wide = innerWidth > 860;
    const room = view.panel.clientWidth - (wide ? 348 : 0);
    const width = Math.max(240, room);
    const height = Math.min(wide ? Math.max(480, innerHeight - 340) : width, 900);
    const pad = 16;
    const [left, right, low, high] = view.bounds;
    const scale = Math.min((width - 2 * pad) / (right - left || 1), (height - 2 * pad) / (high - low || 1));
    const [dx, dy] = [width / 2 - (scale * (left + right)) / 2, height / 2 + (scale * (low + high)) / 2];
    return { width, height, scale, x: (v) => dx + scale * v, y: (v) => dy - scale * v, fromX: (x) => (x - dx) / scale, fromY: (y) => (dy - y) / scale };
  }

  function draw(view) {
    const { canvas, xy, values } = view;
    if (!values) return;
    const g = (view.place = place(view));
    const ratio = Math.min(devicePixelRatio || 1, 2);
    canvas.width = g.width * ratio;
    canvas.height = g.height * ratio;
    canvas.style.width = `${g.width}px`;
    canvas.style.height = `${g.height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const n = values.length;
    const size = n > 20000 ? 2 : n > 4000 ? 3.2 : n > 800 ? 4.5 : 6.5;
    const dark = isDark();
    const byColour = new Map();
    for (let i = 0; i < n; i++) {
      if (!byColour.has(values[i])) byColour.set(values[i], []);
      byColour.get(values[i]).push(i);
    }
    for (const [k, points] of byColour) {
      const dim = state.only !== null && k !== state.only;
      context.fillStyle = dim ? colourOf(-1, dark) : colourOf(k, dark);
      context.globalAlpha = dim ? 0.18 : 0.82;
      for (const i of points) dot(context, g, xy, i, size);
    }
    context.globalAlpha = 1;
    view.backdrop = null;
    mark(view);
  }

  function dot(context, g, xy, i, size) {
    const x = g.x(xy[2 * i]);
    const y = g.y(xy[2 * i + 1]);
    if (size < 4) return context.fillRect(x - size / 2, y - size / 2, size, size);
    context.beginPath();
    context.arc(x, y, size / 2, 0, 6.2832);
    context.fill();
  }

  // The ring around the chosen dot lies on a picture of all dots, so that hovering draws nothing anew.
  function mark(view) {
    const { canvas, at, xy, place: g } = view;
    const context = canvas.getContext("2d");
    if (!view.backdrop) {
      view.backdrop = document.createElement("canvas");
      view.backdrop.width = canvas.width;
      view.backdrop.height = canvas.height;
      view.backdrop.getContext("2d").drawImage(canvas, 0, 0);
    } else {
      context.clearRect(0, 0, g.width, g.height);
      context.drawImage(view.backdrop, 0, 0, g.width, g.height);
    }
    if (at < 0) return;
    context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
    context.lineWidth = 2;
    context.beginPath();
    context.arc(g.x(xy[2 * at]), g.y(xy[2 * at + 1]), 7, 0, 6.2832);
    context.stroke();
  }

  function choose(view, i, speak) {
    if (i === view.at) return;
    view.at = i;
    mark(view);
    if (i < 0) return;
    S.stop();
    const s = segment(i);
    const shown = S.tile(s, { captions: true });
    const count = S.countOf(state.colour.split(" ")[1] || S.shown().name);
    const labels = Object.entries(s.labels).filter(([name, k]) => k >= 0 && S.countOf(name) === count);
    view.card.replaceChildren(shown, S.el("p", { class: "small" }, labels.flatMap(([name, k], j) => [j ? " · " : "", S.el("a", { href: `#clusters/${name}/${k}` }, S.called(name, k))])));
    view.tile = shown.querySelector(".tile");
    if (!S.reduced()) view.tile.dispatchEvent(new PointerEvent("pointerenter", { pointerType: "mouse" }));
    if (speak) S.say(`${S.isolated(S.file(s))}, ${wordOf(state.colour, view.values[i])}`);
  }

  function listen(view) {
    const { canvas } = view;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      const g = view.place;
      return nearest(view, state.only, g.fromX(event.clientX - box.left), g.fromY(event.clientY - box.top), NEAR / g.scale);
    };
    canvas.addEventListener("pointermove", (event) => {
      const i = at(event);
      canvas.style.cursor = i >= 0 ? "pointer" : "default";
      if (i >= 0) choose(view, i, false);
    });
    canvas.addEventListener("click", (event) => {
      const i = at(event);
      if (i < 0) return;
      choose(view, i, false);
      view.tile.click();
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (event.key in steps) {
        const i = view.at < 0 ? nearest(view, state.only, 32768, 32768, 65536) : towards(view, state.only, ...steps[event.key]);
        if (i >= 0) choose(view, i, true);
      } else if ((event.key === "Enter" || event.key === " ") && view.tile) view.tile.click();
      else if (event.key === "Escape" && view.at >= 0) {
        S.stop();
        choose(view, -1, false);
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }
})();
