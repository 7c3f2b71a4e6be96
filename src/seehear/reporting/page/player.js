// A segment as a small tile: a still with its spectrogram; moves on hover or focus, sounds on a click or Enter.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  let playing = null; // { tile, video, loud }

  const SPEAKER = "M3 9v6h4l5 4V5L7 9H3z";
  const WAVES = "M15.5 8.5a5 5 0 0 1 0 7 M18 6a8.5 8.5 0 0 1 0 12";

  function icon() {
    const body = S.svg("path", { d: SPEAKER, fill: "currentColor" });
    const waves = S.svg("path", { d: WAVES, fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round" });
    return S.svg("svg", { viewBox: "0 0 24 24", class: "speaker", "aria-hidden": "true" }, body, waves);
  }

  function stop() {
    if (!playing) return;
    const { tile, video } = playing;
    playing = null;
    video.pause();
    video.remove();
    tile.classList.remove("moving", "loud");
    tile.setAttribute("aria-pressed", "false");
  }

  function start(tile, segment, loud) {
    if (playing && playing.tile !== tile) stop();
    if (!playing) {
      const video = S.el("video", { src: S.media(`${segment.key}.mp4`), loop: true, playsinline: true, "aria-hidden": "true", tabindex: "-1" });
      playing = { tile, video, loud: false };
      tile.querySelector(".frame").append(video);
      tile.classList.add("moving");
      follow(video, tile.querySelector(".head"));
    }
    playing.loud = loud;
    playing.video.muted = !loud;
    tile.classList.toggle("loud", loud);
    tile.setAttribute("aria-pressed", String(loud));
    playing.video.play().catch(() => {}); // stopped before it began, or the browser wants a click first
  }

  // The line on the spectrogram that shows what is heard.
  function follow(video, head) {
    const step = () => {
      if (!playing || playing.video !== video) return;
      if (head && video.duration) head.style.left = `${Math.min(100, (100 * video.currentTime) / video.duration)}%`;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  function describe(segment) {
    const parts = [S.isolated(S.file(segment))];
    if (segment.start !== null) parts.push(`at ${S.time(segment.start)}`);
    if (S.data.report.classes) parts.push(`class ${S.isolated(S.className(segment.class))}`);
    return parts.join(", ");
  }

  // Args: a segment; {captions: whether file, time and class stand below}.
  S.tile = function (segment, { captions = false } = {}) {
    const frame = S.el("span", { class: "frame" });
    const tile = S.el("button", { type: "button", class: "tile", "data-row": segment.row }, frame);
    if (segment.key) {
      const spectrum = S.el("span", { class: "spectrum" }, S.el("img", { src: S.media(`${segment.key}.spectrogram.webp`), alt: "", loading: "lazy" }), S.el("span", { class: "head" }));
      frame.append(S.el("img", { src: S.media(`${segment.key}.webp`), alt: "", loading: "lazy" }), icon());
      tile.append(spectrum);
      tile.setAttribute("aria-label", `Play with sound: ${describe(segment)}`);
      tile.setAttribute("aria-pressed", "false");
      tile.title = describe(segment);
      const quietly = () => !S.reduced() && !(playing && playing.tile === tile) && start(tile, segment, false);
      const leave = () => playing && playing.tile === tile && !playing.loud && document.activeElement !== tile && stop();
      tile.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && quietly());
      tile.addEventListener("pointerleave", leave);
      tile.addEventListener("focus", () => tile.matches(":focus-visible") && quietly());
      tile.addEventListener("blur", () => playing && playing.tile === tile && stop());
      tile.addEventListener("click", () => {
        const loud = !(playing && playing.tile === tile && playing.loud);
        if (loud) start(tile, segment, true);
        else stop();
      });
    } else {
      tile.disabled = true;
      tile.setAttribute("aria-label", `No preview: ${describe(segment)}`);
      frame.append(S.el("span", { class: "none" }, segment.failed ? `Not readable: ${segment.failed}` : "No preview"));
      tile.append(S.el("span", { class: "spectrum" }));
    }
    if (!captions) return tile;
    const line = S.el("figcaption", {}, S.bdi(S.file(segment), "file"));
    line.title = segment.path === null ? "" : segment.path;
    const facts = [];
    if (segment.start !== null) facts.push(S.time(segment.start));
    if (segment.distance !== null) facts.push(`distance ${segment.distance.toFixed(2)}`);
    line.append(S.el("span", { class: "small" }, facts.join(" · ")));
    if (S.data.report.classes && segment.class >= 0) line.append(S.bdi(S.className(segment.class), "chip"));
    line.append(S.ways(segment));
    return S.el("figure", { class: "segment" }, tile, line);
  };

  S.stop = stop;
  S.isPlaying = () => playing !== null;
  document.addEventListener("visibilitychange", () => document.hidden && stop());

  // Arrow keys walk over tiles and cards as they lie on the screen.
  S.walkable = function (container, selector) {
    container.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (!(event.key in steps) || !event.target.matches(selector)) return;
      const [dx, dy] = steps[event.key];
      const here = event.target.getBoundingClientRect();
      let best = null;
      let least = Infinity;
      for (const other of container.querySelectorAll(selector)) {
        const there = other.getBoundingClientRect();
        const x = there.left + there.width / 2 - here.left - here.width / 2;
        const y = there.top + there.height / 2 - here.top - here.height / 2;
        const along = x * dx + y * dy;
        const aside = Math.abs(x * dy) + Math.abs(y * dx);
        if (other === event.target || other.disabled || along < 4 || (dx && aside > here.height / 2)) continue;
        if (along + 3 * aside < least) [best, least] = [other, along + 3 * aside];
      }
      if (best) {
        event.preventDefault();
        best.focus();
      }
    });
  };
})();
