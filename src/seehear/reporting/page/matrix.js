// Video meets audio: a table of counts on a canvas, walked by mouse or arrow keys; a cell opens the segments in it.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const SHOWN = 24;

  S.views.matrix = {
    title: "Video meets audio",
    render(panel, [which, row, column]) {
      if (!S.data.report.spaces) return panel.append(S.unfinished());
      if (!S.data.report.meetings.length) return panel.append(S.empty("Nothing to compare", "This run did not cluster both modalities."));
      S.load("meetings")
        .then((all) => show(panel, all, which === undefined ? usual(all) : Number(which), row, column))
        .catch((error) => panel.append(S.el("p", { class: "plain" }, error.message)));
    },
  };

  // Of as many clusters as were looked at last, or as the page opens with.
  function usual(all) {
    const count = S.countOf(S.shown().name);
    return Math.max(0, all.findIndex((meeting) => S.countOf(meeting.video) === count));
  }

  function show(panel, all, which, row, column) {
    if (!all[which]) which = usual(all);
    const table = prepared(all[which]);
    const count = S.countOf(table.video);
    if (count) S.shown(`${S.shown().space}_${count}`);
    const side = S.el("div", { class: "cell-side" });
    const canvas = S.el("canvas", { tabindex: "0", role: "application", class: "matrix", "aria-describedby": "matrix-help" });
    const tip = S.el("p", { class: "small tip", "aria-hidden": "true" }, "Point at a cell.");
    const view = { table, canvas, tip, side, at: [0, 0] };
    canvas.setAttribute("aria-label", "Matrix of video clusters and audio clusters");
    panel.append(
      S.el("p", { class: "lead" }, `Each row is a video cluster, each column an audio cluster; a cell is stronger the larger the part of both that lies in it. Blocks along the diagonal look alike and sound alike. Cells off the diagonal in one row look alike and sound different; in one column, sound alike and look different. Agreement (AMI): ${table.ami.toFixed(2)}, where 0 is chance.`)
    );
    if (all.length > 1) panel.append(S.el("div", { class: "tools" }, S.choice("Number of clusters", all.map((m, i) => [String(i), S.countOf(m.video)]), String(which), (value) => S.go("matrix", value))));
    panel.append(
      S.el("div", { class: "matrix-view" }, S.el("div", { class: "matrix-box" }, canvas, tip, S.el("p", { id: "matrix-help", class: "small" }, "Arrow keys move, Enter opens the segments in a cell, Escape closes them."), legend()), side)
    );
    const redraw = () => canvas.isConnected && draw(view);
    listen(view, which);
    S.onRedraw = redraw;
    if (row !== undefined && table.rows.includes(Number(row)) && table.columns.includes(Number(column))) {
      view.at = [table.rows.indexOf(Number(row)), table.columns.indexOf(Number(column))];
      open(view, which, false);
    } else {
      side.append(mismatches(view, which));
    }
    redraw();
  }

  function prepared(meeting) {
    const counts = new Map(meeting.cells.map(([r, c, n]) => [r * meeting.columns.length + c, n]));
    const count = (r, c) => counts.get(r * meeting.columns.length + c) || 0;
    const ofRow = meeting.rows.map(() => 0);
    const ofColumn = meeting.columns.map(() => 0);
    for (const [r, c, n] of meeting.cells) {
      ofRow[r] += n;
      ofColumn[c] += n;
    }
    return { ...meeting, count, ofRow, ofColumn, share: (r, c) => count(r, c) / Math.sqrt(ofRow[r] * ofColumn[c] || 1) };
  }

  function geometry(view) {
    const { table, canvas } = view;
    const width = canvas.parentElement.clientWidth;
    const cell = Math.max(2, Math.min(56, Math.floor((width - 112) / table.columns.length), Math.floor(760 / table.rows.length)));
    return { cell, left: 108, top: cell >= 12 ? 74 : 24 };
  }

  function short(context, text, width) {
    if (context.measureText(text).width <= width) return text;
    while (text.length > 1 && context.measureText(`${text}…`).width > width) text = text.slice(0, -1);
    return `${text}…`;
  }

  function draw(view) {
    const { table, canvas } = view;
    const g = (view.geometry = geometry(view));
    const [width, height] = [g.left + g.cell * table.columns.length + 2, g.top + g.cell * table.rows.length + 2];
    const ratio = Math.min(devicePixelRatio || 1, 2);
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    context.fillStyle = colour("--sunken");
    context.fillRect(g.left, g.top, g.cell * table.columns.length, g.cell * table.rows.length);
    context.fillStyle = colour("--accent");
    for (const [r, c] of table.cells) {
      context.globalAlpha = 0.1 + 0.9 * Math.min(1, table.share(r, c));
      context.fillRect(g.left + c * g.cell + 0.5, g.top + r * g.cell + 0.5, g.cell - (g.cell > 5 ? 1 : 0), g.cell - (g.cell > 5 ? 1 : 0));
    }
    context.globalAlpha = 1;
    context.fillStyle = colour("--text-soft");
    context.font = "12px system-ui, sans-serif";
    if (g.cell >= 12) labels(context, table, g);
    context.textAlign = "left";
    context.font = "600 12px system-ui, sans-serif";
    context.fillText("Video ↓  Audio →", 0, 14);
    const [r, c] = view.at;
    context.strokeStyle = colour("--text");
    context.lineWidth = 2;
    context.strokeRect(g.left + c * g.cell, g.top + r * g.cell, g.cell, g.cell);
  }

  function labels(context, table, g) {
    const word = (clustering, k) => S.given(clustering, k) || String(k);
    context.textBaseline = "middle";
    context.textAlign = "right";
    table.rows.forEach((k, r) => context.fillText(short(context, word(table.video, k), 96), g.left - 6, g.top + (r + 0.5) * g.cell));
    context.textAlign = "left";
    table.columns.forEach((k, c) => {
      context.save();
      context.translate(g.left + (c + 0.5) * g.cell, g.top - 6);
      context.rotate(-Math.PI / 3);
      context.fillText(short(context, word(table.audio, k), 66), 0, 0);
      context.restore();
    });
    context.textBaseline = "alphabetic";
  }

  function legend() {
    const steps = [0.1, 0.3, 0.5, 0.7, 0.9, 1].map((share) => {
      const i = S.el("i");
      i.style.opacity = String(share);
      return i;
    });
    return S.el("p", { class: "small ramp" }, "no overlap ", S.el("span", { class: "steps", "aria-hidden": "true" }, steps), " same segments");
  }

  function describe(view) {
    const { table, at } = view;
    const [v, a] = [table.rows[at[0]], table.columns[at[1]]];
    const n = table.count(at[0], at[1]);
    return `${S.calledText(table.video, v)} and ${S.calledText(table.audio, a)}: ${S.plural(n, "segment")}, ${S.percent(n / table.ofRow[at[0]])} of the video cluster, ${S.percent(n / table.ofColumn[at[1]])} of the audio cluster`;
  }

  function move(view, r, c, speak) {
    const { table } = view;
    view.at = [Math.max(0, Math.min(table.rows.length - 1, r)), Math.max(0, Math.min(table.columns.length - 1, c))];
    draw(view);
    view.tip.textContent = describe(view);
    if (speak) S.say(describe(view));
  }

  function listen(view, which) {
    const { canvas } = view;
    const cellAt = (event) => {
      const box = canvas.getBoundingClientRect();
      const g = view.geometry;
      const [r, c] = [Math.floor((event.clientY - box.top - g.top) / g.cell), Math.floor((event.clientX - box.left - g.left) / g.cell)];
      return r >= 0 && c >= 0 && r < view.table.rows.length && c < view.table.columns.length ? [r, c] : null;
    };
    canvas.addEventListener("pointermove", (event) => {
      const cell = cellAt(event);
      if (cell && (cell[0] !== view.at[0] || cell[1] !== view.at[1])) move(view, ...cell, false);
    });
    canvas.addEventListener("click", (event) => {
      const cell = cellAt(event);
      if (!cell) return;
      move(view, ...cell, false);
      open(view, which, false);
    });
    canvas.addEventListener("focus", () => S.say(describe(view)));
    canvas.addEventListener("keydown", (event) => {
      const [r, c] = view.at;
      const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e9], End: [0, 1e9] };
      if (event.key in steps) move(view, r + steps[event.key][0], c + steps[event.key][1], true);
      else if (event.key === "Enter" || event.key === " ") open(view, which, true);
      else return;
      event.preventDefault();
    });
  }

  // The largest cells off the pairing: what a person would look at first.
  function mismatches(view, which) {
    const { table } = view;
    const best = (r) => Math.max(...table.columns.map((_, c) => table.count(r, c)));
    const off = table.cells.filter(([r, c, n]) => n < best(r)).sort((a, b) => b[2] - a[2]).slice(0, 6);
    const rows = off.map(([r, c, n]) =>
      S.el("li", {}, S.el("a", { href: `#matrix/${which}/${table.rows[r]}/${table.columns[c]}` }, "looks like ", S.called(table.video, table.rows[r]), ", sounds like ", S.called(table.audio, table.columns[c])), S.el("span", { class: "small" }, ` ${S.number(n)}`))
    );
    return S.el("section", {}, S.el("h2", {}, "Worth a look"), S.el("p", { class: "small" }, rows.length ? "The largest groups on which the two disagree:" : "The two agree on everything."), S.el("ul", { class: "plain-list" }, rows));
  }

  function open(view, which, focus) {
    const { table, at, side } = view;
    const [v, a] = [table.rows[at[0]], table.columns[at[1]]];
    const n = table.count(at[0], at[1]);
    view.tip.textContent = describe(view);
    history.replaceState(null, "", `#matrix/${which}/${v}/${a}`);
    const close = () => {
      S.stop();
      history.replaceState(null, "", `#matrix/${which}`);
      side.replaceChildren(mismatches(view, which));
      view.canvas.focus();
      S.onEscape = null;
    };
    const list = S.el("div", { class: "grid small-grid" });
    const heading = S.el("h2", { tabindex: "-1" }, S.called(table.video, v), " × ", S.called(table.audio, a));
    const text = S.el("p", { class: "small" }, describe(view));
    const pages = S.el("div");
    side.replaceChildren(S.el("button", { class: "quiet close", type: "button", onclick: close }, "Close"), heading, text, list, pages);
    S.onEscape = close;
    if (!n) list.append(S.el("p", { class: "plain" }, "No segment lies in this cell."));
    else
      S.load(`members/${table.video}-${v}`)
        .then((columns) => fill(S.segments(columns).filter((s) => s.labels[table.audio] === a), n, list, pages, text))
        .catch((error) => list.append(S.el("p", { class: "plain" }, error.message)));
    S.walkable(list, ".tile");
    if (focus) heading.focus();
  }

  function fill(found, n, list, pages, text) {
    if (found.length < n) text.append(` The ${S.number(found.length)} nearest are listed.`);
    const show = (page) => {
      S.stop();
      list.replaceChildren(...found.slice(page * SHOWN, (page + 1) * SHOWN).map((s) => S.tile(s, { captions: true })));
      pages.replaceChildren(S.pager(page, Math.ceil(found.length / SHOWN), show));
    };
    show(0);
  }
})();
