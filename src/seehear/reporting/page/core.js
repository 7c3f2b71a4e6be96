// What every view needs: data that other scripts hand over, elements whose text is always text, words for clusters.
(function () {
  "use strict";
  const data = {};
  const loading = {};

  const S = (window.SEEHEAR = {
    data,
    views: {},
    names: {}, // clustering -> cluster -> name, as they are on the page now
    ticks: {}, // name -> row -> whether it is called so
    chosen: null, // the clustering that was looked at last

    put(name, value) {
      data[name] = value;
    },

    // A data file that is loaded when it is needed, by a script tag: a page from disk may fetch nothing.
    load(name) {
      if (name in data) return Promise.resolve(data[name]);
      loading[name] ??= new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `data/${encodeURI(name)}.js`;
        script.onload = () => (name in data ? resolve(data[name]) : reject(new Error(`${script.src} holds nothing`)));
        script.onerror = () => {
          delete loading[name];
          script.remove();
          reject(new Error(`data/${name}.js is missing. Build the report again.`));
        };
        document.head.append(script);
      });
      return loading[name];
    },

    // Where a preview is: beside the page, or in it, where all is one file.
    media(name) {
      if (!data.media) return `previews/${name}`;
      return `data:${name.endsWith(".mp4") ? "video/mp4" : "image/webp"};base64,${data.media[name]}`;
    },

    // An element; children are elements or text, never markup.
    el(tag, properties, ...children) {
      const node = document.createElement(tag);
      for (const [key, value] of Object.entries(properties || {})) {
        if (value === undefined || value === null || value === false) continue;
        if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
        else if (key === "class") node.className = value;
        else node.setAttribute(key, value === true ? "" : value);
      }
      node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
      return node;
    },

    svg(tag, properties, ...children) {
      const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(properties || {})) node.setAttribute(key, value);
      node.append(...children);
      return node;
    },

    // Text from outside: shown in its own direction, so that it cannot turn around what stands beside it.
    bdi(text, className) {
      return S.el("bdi", { class: className }, String(text));
    },

    // The same where there is only plain text, such as a label: kept apart by marks of direction.
    isolated(text) {
      return `\u2068${text}\u2069`;
    },

    say(text) {
      document.getElementById("status").textContent = text;
    },

    number(value) {
      return Number(value).toLocaleString("en");
    },

    percent(share, digits = 0) {
      return share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)}%`;
    },

    plural(count, one, many) {
      return `${S.number(count)} ${count === 1 ? one : many || one + "s"}`;
    },

    // "video" -> "Video"; "video_64" -> "Video (64)"
    title(clustering) {
      const [space, count] = clustering.split("_");
      return space[0].toUpperCase() + space.slice(1) + (count ? ` (${count})` : "");
    },

    // Of several numbers of clusters, the one of a clustering, as text; else undefined.
    countOf(clustering) {
      return clustering.split("_")[1];
    },

    // "video_64", 7 -> "Video 7 of 64"
    numbered(clustering, cluster) {
      const count = S.countOf(clustering);
      return `${S.title(clustering.split("_")[0])} ${cluster}${count ? ` of ${count}` : ""}`;
    },

    given(clustering, cluster) {
      return (S.names[clustering] && S.names[clustering][cluster]) || "";
    },

    // What a cluster is called, as an element and as plain text.
    called(clustering, cluster) {
      const name = S.given(clustering, cluster);
      return name ? S.bdi(name) : S.el("span", {}, S.numbered(clustering, cluster));
    },

    calledText(clustering, cluster) {
      const name = S.given(clustering, cluster);
      return name ? `${S.isolated(name)} (${S.numbered(clustering, cluster)})` : S.numbered(clustering, cluster);
    },

    className(number) {
      return number >= 0 ? data.report.classes[number] : "no class";
    },

    // Columns -> one segment an entry.
    segments(columns) {
      return columns.row.map((row, i) => {
        const labels = {};
        for (const name of Object.keys(columns.labels)) labels[name] = columns.labels[name][i];
        return {
          row,
          labels,
          key: columns.key[i],
          failed: columns.failed ? columns.failed[i] : "",
          path: columns.path ? columns.path[i] : null,
          start: columns.start ? columns.start[i] : null,
          seconds: columns.seconds ? columns.seconds[i] : null,
          class: columns.class ? columns.class[i] : -1,
          distance: columns.distance ? columns.distance[i] : null,
        };
      });
    },

    time(seconds) {
      const whole = Math.floor(seconds);
      const rest = seconds - whole >= 0.05 ? (seconds % 1).toFixed(1).slice(1) : "";
      return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}${rest}`;
    },

    file(segment) {
      return segment.path === null ? `row ${segment.row}` : segment.path.split("/").pop();
    },

    space(clustering) {
      return (data.report.spaces || []).find((space) => space.name === clustering);
    },

    // The space to show: the one named, else that looked at last, else what the page opens with.
    shown(clustering) {
      const space = S.space(clustering) || S.space(S.chosen || data.report.opening);
      S.chosen = space.name;
      return space;
    },

    card(clustering, cluster) {
      const space = S.space(clustering);
      return space && space.cards.find((card) => card.cluster === cluster);
    },

    go(...parts) {
      location.hash = parts.join("/");
    },

    // A row of buttons of which one is chosen, below what they choose.
    choice(label, options, chosen, onchange) {
      const name = `choice-${Math.random().toString(36).slice(2)}`;
      const group = S.el("div", { class: "choice", role: "radiogroup", "aria-label": label });
      for (const [value, text] of options) {
        const input = S.el("input", { type: "radio", name, value, onchange: () => onchange(value) });
        input.checked = value === chosen;
        group.append(S.el("label", {}, input, S.el("span", {}, text)));
      }
      return S.el("div", { class: "field" }, S.el("span", { "aria-hidden": "true" }, label), group);
    },

    select(label, options, chosen, onchange) {
      const select = S.el("select", { onchange: () => onchange(select.value) });
      for (const [value, text] of options) select.append(S.el("option", { value }, text));
      select.value = chosen;
      return S.el("label", { class: "field" }, S.el("span", {}, label), select);
    },

    // Buttons to walk through pages; empty where there is one.
    pager(page, pages, onchange) {
      if (pages <= 1) return S.el("div", { class: "pager" });
      const step = (text, to, label) =>
        S.el("button", { type: "button", "aria-label": label, disabled: to < 0 || to >= pages, onclick: () => onchange(to) }, text);
      return S.el(
        "nav",
        { class: "pager", "aria-label": "Pages" },
        step("← Back", page - 1, "Page before"),
        S.el("span", { class: "where" }, `Page ${page + 1} of ${pages}`),
        step("Next →", page + 1, "Next page")
      );
    },

    empty(title, text) {
      return S.el("div", { class: "nothing" }, S.el("h2", {}, title), S.el("p", {}, text));
    },

    reduced: () => matchMedia("(prefers-reduced-motion: reduce)").matches,
  });
})();
