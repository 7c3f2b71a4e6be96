// Health: a verdict, and a chart for each thing that can go wrong, with a sentence that says what good looks like.
(function () {
  "use strict";
  const S = window.SEEHEAR;

  const SIGN = { healthy: "✓", collapsed: "!", "not learning": "!", recordings: "!", "not generalising": "!", "not known": "?", "no round": "…", "not trained": "·" };

  function verdict(health) {
    const v = health.verdict;
    const box = S.el(
      "section",
      { class: `verdict ${v.kind.replace(" ", "-")}`, "aria-label": "Verdict" },
      S.el("span", { class: "sign", "aria-hidden": "true" }, SIGN[v.kind]),
      S.el("div", {}, S.el("h2", {}, v.title), S.el("p", {}, v.text))
    );
    if (v.advice.length) {
      box.lastChild.append(S.el("h3", {}, v.kind === "healthy" || v.kind === "not known" ? "Worth knowing" : "What to change"));
      box.lastChild.append(S.el("ul", {}, v.advice.map((text) => S.el("li", {}, text))));
    }
    return box;
  }

  // One point an epoch, at the share of the round that it ends.
  function byEpoch(rounds, key, student) {
    return rounds.flatMap((r) => {
      const values = (r[key] || {})[student] || [];
      return values.map((value, i) => [r.round + (i + 1) / values.length, value]);
    });
  }

  function byRound(rounds, value) {
    return rounds.map((r) => [r.round + 1, value(r)]).filter((p) => p[1] !== null && p[1] !== undefined);
  }

  function style(name) {
    return name.split("_")[0];
  }

  S.views.health = {
    title: "Health",
    render(panel) {
      const health = S.data.report.health;
      const rounds = health.rounds;
      panel.append(verdict(health));
      if (!rounds.length) return;
      const last = health.last; // in alternating order a round has one student and one clustering
      const students = Object.keys(last.loss);
      const clusterings = Object.keys(last.clusters);
      const step = Math.max(1, Math.ceil(rounds.length / 8));
      const xTicks = rounds.filter((r, i) => i % step === 0).map((r) => [r.round + 1, String(r.round + 1)]);
      const shared = { xTicks, xLabel: "Round" };
      const both = (key, end) =>
        students.flatMap((student) => [
          { name: student, style: student, points: byEpoch(rounds, key, student) },
          { name: `${student}, ${end}`, style: `${student} dashed`, points: byEpoch(rounds, `heldout_${key}`, student) },
        ]);
      // Of several numbers of clusters, loss and accuracy are means; what is alarming differs.
      const counts = [...new Set(clusterings.map((name) => last.clusters[name].num_clusters))].sort((a, b) => a - b);
      const mean = (of) => counts.map(of).reduce((sum, x) => sum + x, 0) / counts.length;
      const each = (of) => counts.map((k) => of(k) + (counts.length > 1 ? ` of ${k}` : "")).join(", ");
      const alarming = Object.values(health.bounds.collapsed)[0];
      const charts = [
        S.lines({
          ...shared,
          title: "Loss",
          series: both("loss", "kept out"),
          format: (v) => v.toFixed(2),
          guide: { value: mean(Math.log), name: "guessing" },
          good: "Good: well below guessing (ln K), falling within each round; a jump where a round begins is usual, since labels are new.",
        }),
        S.lines({
          ...shared,
          title: "Pseudo-label accuracy",
          series: both("accuracy", "kept out"),
          format: (v) => S.percent(v),
          from: 0,
          good: `Good: far above chance (${S.percent(mean((k) => 1 / k), 1)}), with kept-out clips close behind those that are trained on.`,
        }),
        S.lines({
          ...shared,
          title: "Agreement with the last round",
          series: clusterings.map((name) => ({ name, style: style(name), points: byRound(rounds, (r) => r.clusters[name]?.nmi_last) })),
          format: (v) => v.toFixed(2),
          from: 0,
          to: 1,
          good: "Good: rises over the rounds and settles; 1 means that no label changed, 0 that they are drawn anew (NMI).",
        }),
        S.lines({
          ...shared,
          title: "Agreement of video and audio",
          series: [{ name: "video with audio", style: "both", points: byRound(rounds, (r) => r.ami_video_audio) }],
          format: (v) => v.toFixed(2),
          from: 0,
          to: 1,
          good: "Good: rises, since each encoder learns what the other one hears or sees (AMI; 0 is chance).",
        }),
        S.lines({
          ...shared,
          title: "RankMe",
          series: Object.keys(last.rankme).map((name) => ({ name, style: name, points: byRound(rounds, (r) => r.rankme[name]) })),
          format: (v) => S.number(Math.round(v)),
          from: 0,
          good: "Good: far above 1. In how many directions features vary: fewer while clusters form, and towards 1 it is a collapse.",
        }),
        recordings(rounds, shared),
        S.lines({
          ...shared,
          title: "Largest cluster",
          series: clusterings.map((name) => ({ name, style: style(name), points: byRound(rounds, (r) => r.clusters[name] && r.clusters[name].largest / r.rows) })),
          format: (v) => S.percent(v),
          from: 0,
          to: 1,
          guide: counts.length > 1 ? undefined : { value: alarming, name: "collapse" },
          good: `Good: a small multiple of 1 / K (${each((k) => S.percent(1 / k, 1))}); from one in the root of K (${each((k) => S.percent(k ** -0.5))}) up it counts as collapsed.`,
        }),
        sizes(health),
        S.lines({
          ...shared,
          title: "Speed",
          series: [{ name: "clips a second", style: "both", points: byRound(rounds, (r) => r.timing.clips_per_second) }],
          format: (v) => S.number(Math.round(v)),
          from: 0,
          good: "Good: steady. A fall means that something else uses the machine, or files come from a slow disk.",
        }),
        S.lines({
          ...shared,
          title: "Waiting for data",
          series: [{ name: "share of training time", style: "both", points: byRound(rounds, (r) => r.timing.waiting_share) }],
          format: (v) => S.percent(v),
          from: 0,
          to: Math.max(0.2, ...rounds.map((r) => r.timing.waiting_share)),
          guide: { value: health.bounds.waiting, name: "too long" },
          good: `Good: below ${S.percent(health.bounds.waiting)}. More means that decoding is the bottleneck.`,
        }),
      ];
      panel.append(S.el("div", { class: "charts" }, charts), glossary());
    },
  };

  function glossary() {
    const words = Object.entries(S.data.report.glossary);
    const list = words.flatMap(([word, meaning]) => [S.el("dt", {}, word), S.el("dd", {}, meaning)]);
    return S.el("details", { class: "glossary" }, S.el("summary", {}, "What the words mean"), S.el("dl", {}, list));
  }

  // Nothing where each row is a recording of its own.
  function recordings(rounds, shared) {
    const { chance, ...shares } = rounds[rounds.length - 1].between_recordings;
    if (chance >= 1) return null;
    const centred = {
      all: "Clusters are of features as they are (cluster.centre all).",
      recording: "Clusters are of features less the mean of their recording (cluster.centre recording).",
      auto: "Clusters are of features less what is their recording's (cluster.centre auto).",
    };
    return S.lines({
      ...shared,
      title: "Variance between recordings",
      series: Object.keys(shares).map((name) => ({ name, style: name, points: byRound(rounds, (r) => r.between_recordings[name]) })),
      format: (v) => S.percent(v),
      from: 0,
      to: 1,
      guide: { value: chance, name: "chance" },
      good: `${centred[S.data.report.run.centre]} Good: near chance; near 1 an encoder tells recordings apart, not what happens in them.`,
    });
  }

  function sizes(health) {
    const names = Object.keys(health.sizes);
    if (!names.length) return null;
    const series = names.map((name) => {
      const of = health.sizes[name];
      const { edges, counts } = of.histogram;
      return {
        name,
        style: style(name),
        summary: `${of.clusters} clusters, ${of.empty} empty, largest ${of.largest}`,
        bars: counts.map((count, i) => ({ from: edges[i], to: edges[i + 1], count })),
      };
    });
    const facts = names.map((name) => {
      const of = health.sizes[name];
      return `${name}: ${of.empty} empty, median ${S.number(of.median)}, largest ${S.number(of.largest)}`;
    });
    return S.bars({
      title: "Cluster sizes in the last round",
      series,
      xLabel: "segments in a cluster",
      yLabel: "clusters",
      good: `Good: one hill, few empty clusters, no lone bar far to the right. ${facts.join("; ")}.`,
    });
  }
})();
