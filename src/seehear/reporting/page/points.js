// Points of the map: unpacked from text, found by a grid (so that 50,000 stay smooth), and their colours.
(function () {
  "use strict";
  const CELLS = 128; // of the grid, on each side

  function bytes(text, Kind) {
    const raw = atob(text);
    const array = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) array[i] = raw.charCodeAt(i);
    return new Kind(array.buffer);
  }

  function unpack(raw) {
    const segments = { ...raw.segments, labels: {} };
    for (const [name, text] of Object.entries(raw.segments.labels)) segments.labels[name] = bytes(text, Int32Array);
    segments.row = bytes(segments.row, Int32Array);
    if (segments.class) segments.class = bytes(segments.class, Int32Array);
    const positions = {};
    for (const [name, text] of Object.entries(raw.positions)) positions[name] = bytes(text, Uint16Array);
    return { segments, positions, rounds: {} };
  }

  // Points by cell of a grid: `begin` holds where each cell's points start in `points`.
  function gridOf(xy) {
    const n = xy.length / 2;
    const begin = new Uint32Array(CELLS * CELLS + 1);
    const cell = new Uint16Array(n);
    for (let i = 0; i < n; i++) {
      cell[i] = ((xy[2 * i + 1] * CELLS) >> 16) * CELLS + ((xy[2 * i] * CELLS) >> 16);
      begin[cell[i] + 1]++;
    }
    for (let i = 0; i < CELLS * CELLS; i++) begin[i + 1] += begin[i];
    const points = new Uint32Array(n);
    const next = begin.slice();
    for (let i = 0; i < n; i++) points[next[cell[i]]++] = i;
    return { begin, points };
  }

  function boundsOf(xy) {
    const bounds = [65535, 0, 65535, 0];
    for (let i = 0; i < xy.length; i++) {
      const axis = (i % 2) * 2;
      bounds[axis] = Math.min(bounds[axis], xy[i]);
      bounds[axis + 1] = Math.max(bounds[axis + 1], xy[i]);
    }
    return bounds;
  }

  const HUES = [200, 25, 145, 285, 60, 340, 175, 230, 95, 5, 260, 40];
  function colourOf(k, dark) {
    if (k < 0) return dark ? "#5b6068" : "#b9bcc2";
    const hue = k < HUES.length ? HUES[k] : (k * 137.508) % 360;
    const shift = 14 * ((k + Math.floor(k / HUES.length)) % 2) - 6; // neighbours differ in lightness too
    return `hsl(${hue} 62% ${(dark ? 64 : 44) + shift}%)`;
  }

  // The point nearest to a place, in the units of the positions, within some distance of it.
  function nearest({ xy, grid, values }, only, x, y, within) {
    const { begin, points } = grid;
    const cell = (v) => Math.max(0, Math.min(CELLS - 1, Math.floor((v * CELLS) / 65536)));
    let best = -1;
    let least = within * within;
    for (let r = cell(y - within); r <= cell(y + within); r++)
      for (let j = begin[r * CELLS + cell(x - within)]; j < begin[r * CELLS + cell(x + within) + 1]; j++) {
        const i = points[j];
        if (only !== null && values[i] !== only) continue;
        const d = (xy[2 * i] - x) ** 2 + (xy[2 * i + 1] - y) ** 2;
        if (d < least) [best, least] = [i, d];
      }
    return best;
  }

  // The nearest point in a direction, for arrow keys.
  function towards({ xy, at, values }, only, dx, dy) {
    let best = -1;
    let least = Infinity;
    for (let i = 0; i < xy.length / 2; i++) {
      if (i === at || (only !== null && values[i] !== only)) continue;
      const [x, y] = [xy[2 * i] - xy[2 * at], xy[2 * i + 1] - xy[2 * at + 1]];
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 0 && aside <= along && along + 2 * aside < least) [best, least] = [i, along + 2 * aside];
    }
    return best;
  }

  window.SEEHEAR.points = { bytes, unpack, gridOf, boundsOf, colourOf, nearest, towards };
})();
