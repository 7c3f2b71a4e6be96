// Clusters: a grid of cards for each space; a card opens to the members of its cluster, page by page.
(function () {
  "use strict";
  const S = window.SEEHEAR;
  const CARDS = 24; // on a page
  const MEMBERS = 48;
  const state = { order: "size", filter: "", page: 0 };

  S.unfinished = () =>
    S.empty("Not there yet", "Clusters, matrix and map come with the last round. Until then this page shows the run's health; build it again when training is over.");

  // Buttons for the spaces, and for the numbers of clusters where there are several.
  S.spaceChoice = (chosen, onchange) => {
    const parts = S.data.report.spaces.map((space) => space.name.split("_"));
    const [spaces, counts] = [0, 1].map((i) => [...new Set(parts.map((part) => part[i]))]);
    const [space, count] = chosen.split("_");
    const to = (...name) => onchange(name.filter(Boolean).join("_"));
    return [
      S.choice("Clustered by", spaces.map((name) => [name, S.title(name)]), space, (name) => to(name, count)),
      counts.length > 1 ? S.choice("Number of clusters", counts.map((k) => [k, k]), count, (k) => to(space, k)) : null,
    ];
  };

  S.views.clusters = {
    title: "Clusters",
    render(panel, [clustering, cluster, page]) {
      if (!S.data.report.spaces) return panel.append(S.unfinished());
      const space = S.shown(clustering);
      if (cluster !== undefined && S.card(space.name, Number(cluster))) return detail(panel, space, Number(cluster), Number(page) || 0);
      grid(panel, space);
    },
  };

  const ORDERS = {
    size: ["largest first", (a, b) => b.size - a.size],
    compactness: ["most compact first", (a, b) => a.compactness - b.compactness],
    agreement: ["most agreed on first", (a, b) => share(b) - share(a)],
    purity: ["purest first", (a, b) => (b.purity || 0) - (a.purity || 0)],
    number: ["by number", (a, b) => a.cluster - b.cluster],
  };

  function share(card) {
    return Math.max(0, ...card.partners.map((p) => p.share));
  }

  // What the filter looks in: number and name, classes, and files that are shown.
  function words(space, card, segments) {
    const classes = (card.classes || []).map(([c]) => S.className(c));
    const files = card.nearest.map((row) => segments.get(row).path || "");
    return [S.numbered(space.name, card.cluster), S.given(space.name, card.cluster), ...classes, ...files].join("\n").toLowerCase();
  }

  function grid(panel, space) {
    const segments = new Map(S.segments(space.segments).map((s) => [s.row, s]));
    const orders = Object.entries(ORDERS).filter(([key]) => key !== "purity" || S.data.report.classes);
    const search = S.el("input", { type: "search", placeholder: "name, class, file or number", value: state.filter });
    const list = S.el("div", { class: "cards" });
    const count = S.el("p", { class: "small count" });
    const pages = S.el("div");
    const show = () => {
      const wanted = state.filter.trim().toLowerCase();
      const found = space.cards.filter((card) => words(space, card, segments).includes(wanted)).sort((a, b) => ORDERS[state.order][1](a, b) || a.cluster - b.cluster);
      const total = Math.max(1, Math.ceil(found.length / CARDS));
      state.page = Math.min(state.page, total - 1);
      const shown = found.slice(state.page * CARDS, (state.page + 1) * CARDS);
      S.stop();
      list.replaceChildren(...shown.map((card) => cardOf(space, card, segments)));
      const empty = space.empty ? `, ${S.plural(space.empty, "empty one", "empty ones")} left out` : "";
      const text = `${S.plural(found.length, "cluster")}${wanted ? ` of ${S.number(space.cards.length)}` : ""}${empty}`;
      count.textContent = text;
      if (wanted) S.say(text);
      pages.replaceChildren(
        S.pager(state.page, total, (to) => {
          state.page = to;
          show();
          panel.querySelector(".cards a")?.focus();
          scrollTo({ top: 0 });
        })
      );
    };
    search.addEventListener("input", () => {
      state.filter = search.value;
      state.page = 0;
      show();
    });
    const order = S.select("Order", orders.map(([key, [text]]) => [key, text]), state.order, (value) => {
      state.order = value;
      state.page = 0;
      show();
    });
    const known = space.agreement ? ` With the true classes: purity ${S.percent(space.agreement.purity)}, NMI ${space.agreement.nmi.toFixed(2)}.` : "";
    panel.append(
      S.el("p", { class: "lead" }, `What the ${space.space === "joint" ? "two encoders together" : space.space + " encoder"} put together, seen by the segments nearest to each centroid. Hover or focus to see them move, click or press Enter to hear them.${known}`),
      S.el(
        "div",
        { class: "tools" },
        S.spaceChoice(space.name, (name) => {
          state.page = 0;
          S.go("clusters", name);
        }),
        order,
        S.el("label", { class: "field grow" }, S.el("span", {}, "Filter"), search)
      ),
      count,
      list,
      pages
    );
    S.walkable(list, ".tile");
    show();
  }

  function cardOf(space, card, segments) {
    const tiles = card.nearest.map((row) => S.tile(segments.get(row)));
    const link = S.el("a", { href: `#clusters/${space.name}/${card.cluster}` }, S.called(space.name, card.cluster));
    return S.el(
      "article",
      { class: "card", "data-cluster": card.cluster },
      S.el("header", {}, S.el("h3", {}, link), S.el("span", { class: "small" }, S.plural(card.size, "segment"))),
      S.el("div", { class: "tiles" }, tiles),
      facts(space, card)
    );
  }

  function facts(space, card) {
    const list = S.el("dl", { class: "facts-list" });
    const add = (term, ...what) => list.append(S.el("div", {}, S.el("dt", {}, term), S.el("dd", {}, what)));
    for (const p of card.partners) {
      add(space.space === "joint" ? `In ${p.name.split("_")[0]}` : "Agreement", meter(p.share), S.el("span", {}, `${S.percent(p.share)} in `), S.el("a", { href: `#clusters/${p.name}/${p.cluster}` }, S.called(p.name, p.cluster)));
    }
    if (card.purity !== undefined) add("Purity", meter(card.purity), S.el("span", {}, `${S.percent(card.purity)} `), S.bdi(S.className(card.classes[0][0]), "chip"));
    add("Compactness", S.el("span", {}, `${card.compactness.toFixed(2)} from the centroid on average`));
    return list;
  }

  function meter(value) {
    const bar = S.el("i");
    bar.style.width = `${Math.round(100 * value)}%`;
    return S.el("span", { class: "meter", "aria-hidden": "true" }, bar);
  }

  function classBars(card) {
    if (!card.classes) return null;
    const total = card.size;
    const rows = card.classes.map(([c, n]) => S.el("li", {}, S.bdi(S.className(c), "label"), meter(n / total), S.el("span", { class: "small" }, `${S.number(n)}`)));
    return S.el("section", { class: "side" }, S.el("h3", {}, "Most frequent classes"), S.el("ul", { class: "bars" }, rows));
  }

  function detail(panel, space, cluster, page) {
    const card = S.card(space.name, cluster);
    const back = S.el("a", { class: "back", href: `#clusters/${space.name}` }, `← All ${S.title(space.name).toLowerCase()} clusters`);
    const heading = S.el("h2", { tabindex: "-1" }, S.called(space.name, cluster), S.el("span", { class: "small" }, ` ${S.given(space.name, cluster) ? `${S.numbered(space.name, cluster)} · ` : ""}${S.plural(card.size, "segment")}`));
    const aside = S.el("div", { class: "detail-head" }, facts(space, card), classBars(card), S.el("section", { class: "side" }, S.el("h3", {}, "Name"), S.nameField(space.name, cluster, () => heading.firstChild.replaceWith(S.called(space.name, cluster)))));
    const members = S.el("div", { class: "members" });
    panel.append(back, heading, aside, members);
    S.load(`members/${space.name}-${cluster}`)
      .then((columns) => showMembers(members, space, card, S.segments(columns), page))
      .catch((error) => members.append(S.el("p", { class: "plain" }, error.message)));
    S.onEscape = () => S.go("clusters", space.name);
  }

  function showMembers(box, space, card, all, page) {
    const local = { class: "", order: "near", page };
    const list = S.el("div", { class: "grid" });
    const pages = S.el("div");
    const count = S.el("p", { class: "small count" });
    const show = (focus) => {
      const found = all.filter((s) => local.class === "" || String(s.class) === local.class);
      if (local.order === "far") found.reverse();
      const total = Math.max(1, Math.ceil(found.length / MEMBERS));
      local.page = Math.min(local.page, total - 1);
      S.stop();
      list.replaceChildren(...found.slice(local.page * MEMBERS, (local.page + 1) * MEMBERS).map((s) => S.tile(s, { captions: true })));
      count.textContent =
        (all.length < card.size ? `The ${S.number(all.length)} listed of ${S.number(card.size)} members` : `All ${S.plural(card.size, "member")}`) +
        (local.class === "" ? "." : `; ${S.number(found.length)} of the chosen class.`);
      pages.replaceChildren(
        S.pager(local.page, total, (to) => {
          local.page = to;
          history.replaceState(null, "", `#clusters/${space.name}/${card.cluster}/${to}`);
          show(true);
        })
      );
      if (focus) (list.querySelector(".tile:not(:disabled)") || list).focus();
    };
    const tools = S.el("div", { class: "tools" });
    tools.append(
      S.select("Order", [["near", "nearest to the centroid first"], ["far", "farthest first"]], local.order, (value) => {
        Object.assign(local, { order: value, page: 0 });
        show();
      })
    );
    if (S.data.report.classes) {
      const present = [...new Set(all.map((s) => s.class))].sort((a, b) => a - b);
      const options = [["", "all classes"], ...present.map((c) => [String(c), S.className(c)])];
      tools.append(
        S.select("Class", options, "", (value) => {
          Object.assign(local, { class: value, page: 0 });
          show();
        })
      );
    }
    box.append(S.el("h3", {}, "Members"), tools, count, list, pages);
    S.walkable(list, ".tile");
    show();
  }
})();
