// Small charts as SVG: lines over rounds, and bars. Each is a figure with a title, what good looks like, and its numbers.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const WIDTH = 420;
  const HEIGHT = 190;
  const LEFT = 46;
  const RIGHT = 12;
  const TOP = 12;
  const BOTTOM = 28;

  // Round numbers from low to high.
  function ticks(low, high, count = 4) {
    const rough = (high - low) / count || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999) || power * 10;
    const found = [];
    for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < 1e-12 ? 0 : v);
    return found;
  }

  function frame(label) {
    return S.svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": label });
  }

  function axisY(svg, low, high, format) {
    const y = (v) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (v - low) / (high - low || 1));
    for (const v of ticks(low, high)) {
      svg.append(S.svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(v), y2: y(v), class: "grid" }));
      svg.append(S.svg("text", { x: LEFT - 7, y: y(v) + 3.5, class: "tick end" }, format(v)));
    }
    return y;
  }

  // Series: [{name, style, points: [[x, y], ...]}]; styles: video, audio, joint, with " dashed" and " thin".
  S.lines = function ({ title, good, series, format, from, to, xLabel, xTicks, guide }) {
    const used = series.filter((s) => s.points.length);
    const values = used.flatMap((s) => s.points.map((p) => p[1])).concat(guide ? [guide.value] : []);
    if (!values.length) return null;
    const xs = used.flatMap((s) => s.points.map((p) => p[0]));
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let low = from !== undefined ? from : Math.min(...values);
    let high = to !== undefined ? to : Math.max(...values);
    if (from === undefined) low -= 0.08 * (high - low || 1);
    if (to === undefined) high += 0.08 * (high - low || 1);
    const last = used.map((s) => `${s.name} ${format(s.points[s.points.length - 1][1])}`).join(", ");
    const svg = frame(`${title}, at the end: ${last}`);
    const y = axisY(svg, low, high, format);
    const x = (v) => (x1 === x0 ? (LEFT + WIDTH - RIGHT) / 2 : LEFT + 6 + ((WIDTH - RIGHT - LEFT - 12) * (v - x0)) / (x1 - x0));
    for (const [v, text] of xTicks) svg.append(S.svg("text", { x: x(v), y: HEIGHT - 9, class: "tick middle" }, text));
    if (guide) {
      svg.append(S.svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(guide.value), y2: y(guide.value), class: "guide" }));
      svg.append(S.svg("text", { x: WIDTH - RIGHT, y: y(guide.value) - 5, class: "tick end" }, guide.name));
    }
    for (const s of used) {
      const path = s.points.map((p, i) => `${i ? "L" : "M"}${x(p[0]).toFixed(1)} ${y(p[1]).toFixed(1)}`).join("");
      svg.append(S.svg("path", { d: path, class: `line ${s.style}` }));
      for (const p of s.points.length > 30 ? s.points.slice(-1) : s.points)
        svg.append(S.svg("circle", { cx: x(p[0]), cy: y(p[1]), r: s.points.length > 10 ? 2.2 : 3, class: `dot ${s.style}` }));
    }
    return figure(title, good, svg, used, numbers(used, format, xLabel));
  };

  // Bars: [{from, to, count}] of one or several series, side by side.
  S.bars = function ({ title, good, series, xLabel, yLabel }) {
    const most = Math.max(1, ...series.flatMap((s) => s.bars.map((b) => b.count)));
    const end = Math.max(1, ...series.flatMap((s) => s.bars.map((b) => b.to)));
    const svg = frame(`${title}: ${series.map((s) => `${s.name}, ${s.summary}`).join("; ")}`);
    const y = axisY(svg, 0, most, (v) => (Number.isInteger(v) ? S.number(v) : ""));
    const x = (v) => LEFT + ((WIDTH - RIGHT - LEFT) * v) / end;
    series.forEach((s, i) => {
      for (const b of s.bars) {
        if (!b.count) continue;
        const width = (x(b.to) - x(b.from)) / series.length;
        const left = x(b.from) + i * width;
        svg.append(S.svg("rect", { x: left + 0.5, width: Math.max(1, width - 1), y: y(b.count), height: y(0) - y(b.count), rx: 1.5, class: `bar ${s.style}` }));
      }
    });
    for (const v of ticks(0, end, 5)) if (Number.isInteger(v)) svg.append(S.svg("text", { x: x(v), y: HEIGHT - 9, class: "tick middle" }, S.number(v)));
    const table = S.el("table", {}, head([xLabel, ...series.map((s) => s.name)]));
    const body = S.el("tbody");
    const rows = Math.max(...series.map((s) => s.bars.length));
    for (let i = 0; i < rows; i++) {
      const cells = series.map((s) => (s.bars[i] ? `${S.number(s.bars[i].from)}–${S.number(s.bars[i].to - 1)}: ${S.number(s.bars[i].count)}` : ""));
      body.append(S.el("tr", {}, S.el("th", { scope: "row" }, String(i + 1)), cells.map((c) => S.el("td", {}, c))));
    }
    table.append(body);
    const shown = figure(title, good, svg, series, table);
    shown.querySelector(".legend").append(S.el("span", { class: "small" }, `Across: ${xLabel}. Up: ${yLabel}.`));
    return shown;
  };

  function head(texts) {
    return S.el("thead", {}, S.el("tr", {}, texts.map((t) => S.el("th", { scope: "col" }, t))));
  }

  function numbers(series, format, xLabel) {
    const xs = [...new Set(series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
    const body = S.el("tbody");
    for (const at of xs) {
      const cells = series.map((s) => {
        const point = s.points.find((p) => p[0] === at);
        return S.el("td", {}, point ? format(point[1]) : "");
      });
      body.append(S.el("tr", {}, S.el("th", { scope: "row" }, Number.isInteger(at) ? String(at) : at.toFixed(2)), cells));
    }
    return S.el("table", {}, head([xLabel, ...series.map((s) => s.name)]), body);
  }

  function figure(title, good, svg, series, table) {
    const legend = S.el("div", { class: "legend" });
    for (const style of new Set(series.map((s) => s.style))) {
      const names = series.filter((s) => s.style === style).map((s) => s.name);
      legend.append(S.el("span", { class: "key" }, S.el("i", { class: `swatch ${style}` }), names.join(", ")));
    }
    const scroll = S.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, numbers` }, table);
    return S.el(
      "figure",
      { class: "panel" },
      S.el("h3", {}, title),
      svg,
      legend,
      S.el("figcaption", { class: "good" }, good),
      S.el("details", {}, S.el("summary", {}, "Numbers"), scroll)
    );
  }
})();
