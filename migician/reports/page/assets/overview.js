// The figures above the samples. Each part of the data that is there is drawn by the function of its name.
const INTERVAL = "95% interval, clustered by image tuple";

function drawHead() {
  document.title = `${PAGE.title} · Migician`;
  const facts = PAGE.facts.map(([name, value]) => el("span", {}, `${name} `, el("b", {}, value)));
  document.getElementById("head").append(el("h1", {}, PAGE.title), el("p", { class: "facts" }, facts));
}

function drawOverview() {
  const overview = document.getElementById("overview");
  for (const [part, draw] of Object.entries(PARTS)) {
    const content = PAGE[part];
    if (content && (!Array.isArray(content) || content.length)) overview.append(...draw(content));
  }
}

const PARTS = {
  scores(scores) {
    const series = seriesOf(scores);
    const columns = ["task", "n", ...series.map((one) => el("span", { class: "series" }, one.mark(), one.name)), axis()];
    const rows = scores.rows.map((row) => [
      row.task === null ? "average of tasks" : filterLink({ task: PAGE.tasks[row.task][0] }, taskName(row.task)),
      number(row.n), ...row.cells, dots(row.cells, series),
    ]);
    const scored = table(`${scores.metric} by task`, columns, rows, columns.length - 1);
    scored.classList.add("scores");
    const tasks = scores.rows.filter((row) => row.task !== null);
    return [
      el("h2", {}, `${scores.metric} by task`),
      el("p", { class: "hint" }, `Percent, each with its ${INTERVAL}.`),
      el("div", { class: "beside" }, scored, tasks.length > 2 ? radar(tasks, series) : null,
        el("div", { class: "cautions" }, PAGE.cautions.map((line) => el("p", { class: "caution" }, line)))),
    ];
  },
  comparisons: (found) => [
    el("h2", {}, "Compared, question by question"),
    // Of several, each is a line with its average, to be opened.
    ...found.map((one) => (found.length === 1 ? comparison(one) : fold(compared(one), [comparison(one)]))),
  ],
  counts(counts) {
    const columns = ["task", ...(runs().length > 1 ? ["run"] : []), ...PAGE.outcomes.map((_, at) => outcomeName(at))];
    const rows = counts.flatMap((perRun, task) => perRun.map((own, run) => [
      run ? "" : taskName(task),
      ...(runs().length > 1 ? [key(1 + run)] : []),
      ...own.map((count, outcome) => countLink(count, own, { task: PAGE.tasks[task][0], run, outcome: PAGE.outcomes[outcome] })),
    ]));
    return [
      el("h2", {}, "What became of the replies"),
      el("p", { class: "hint" }, "A number leads to its samples."),
      table("Outcomes by task", columns, rows, PAGE.outcomes.length),
    ];
  },
  histograms: (charts) => [el("div", { class: "charts" }, charts.map(histogram))],
  tables: (tables) => tables.map((one) => fold(one.title, [
    table(one.title, one.columns, one.rows, one.numbers),
    ...one.remarks.map((line) => el("p", { class: "hint" }, line)),
  ])),
  notes: (lines) => [
    filled(fold(PAGE.kind === "runs" ? "What these figures belong to" : "MIG-Bench's images", [
      el("ul", {}, lines.map((line) => el("li", {}, line))),
    ]), { open: true }, []),
  ],
  faults: (lines) => [fold(`Not everything can be shown: ${number(lines.length)}`, [
    el("ul", {}, lines.slice(0, 200).map((line) => el("li", {}, line))),
  ])],
};

const fold = (title, children) => el("details", {}, el("summary", {}, title), ...children);
const runs = () => PAGE.looks.filter((look) => look.look === "run");

// The runs and published rows of the scores: a name, and what stands for it in a drawing at (x, y).
function seriesOf(scores) {
  const own = runs().map((run, at) => ({
    name: run.name,
    mark: () => key(1 + at),
    colour: run.colour,
    point: (x, y) => styled(svg("circle", { cx: x, cy: y, r: 4.5 }), { fill: run.colour }),
  }));
  const others = scores.published.map((name, at) => {
    const point = (x, y) => (at % 2
      ? svg("rect", { class: "hollow", x: x - 4, y: y - 4, width: 8, height: 8 })
      : svg("path", { class: "hollow", d: `M${x - 5.5} ${y}L${x} ${y - 5.5}L${x + 5.5} ${y}L${x} ${y + 5.5}Z` }));
    return {
      name: `${name}, published`,
      mark: () => svg("svg", { class: "sign", viewBox: "0 0 14 14", "aria-hidden": "true" }, point(7, 7)),
      dash: at % 2 ? "2 4" : "7 4",
      point,
    };
  });
  return [...own, ...others];
}

// Where a percentage stands on the line of a row, in pixels.
const ACROSS = 170;
const across = (value) => 8 + ((ACROSS - 16) * value) / 100;

function axis() {
  const anchors = [[0, "start"], [50, "middle"], [100, "end"]];
  return svg("svg", { class: "axis", width: ACROSS, height: 14, "aria-hidden": "true" }, anchors.map(([value, anchor]) =>
    svg("text", { x: across(value), y: 11, "text-anchor": anchor }, value === 100 ? "100%" : String(value))));
}

// One row of the scores on a line from 0 to 100%.
function dots(cells, series) {
  const [x, step] = [across, 12];
  const height = step * cells.length + 7;
  const drawing = svg("svg", { class: "dots", width: ACROSS, height, "aria-hidden": "true" });
  for (const value of [0, 25, 50, 75, 100]) {
    drawing.append(svg("line", { class: "grid", x1: x(value), x2: x(value), y1: 0, y2: height }));
  }
  cells.forEach((one, at) => {
    if (!one) return;
    const y = step * (at + 0.5) + 3.5;
    const [value, low, high] = one.at;
    if (low !== undefined) {
      const line = svg("line", { x1: x(low), x2: x(high), y1: y, y2: y, "stroke-width": 2.5 });
      drawing.append(styled(line, { stroke: series[at].colour }));
    }
    drawing.append(series[at].point(x(value), y));
  });
  return drawing;
}

// One axis a task, from 0 in the middle to 100%.
function radar(rows, series) {
  const [cx, cy, radius] = [210, 165, 118];
  const at = (place, value) => {
    const angle = (2 * Math.PI * place) / rows.length - Math.PI / 2;
    return [cx + (Math.cos(angle) * radius * value) / 100, cy + (Math.sin(angle) * radius * value) / 100];
  };
  const ring = (values) => values.map((value, place) => at(place, value).map((side) => side.toFixed(1)).join(",")).join(" ");
  const drawing = svg("svg", { class: "radar", viewBox: "0 0 420 330", role: "img", "aria-label": "Radar of the tasks, 0 to 100%" });
  for (const value of [25, 50, 75, 100]) drawing.append(svg("polygon", { class: "grid", points: ring(rows.map(() => value)) }));
  rows.forEach((row, place) => {
    const [[x, y], [labelX, labelY]] = [at(place, 100), at(place, 109)];
    const anchor = Math.abs(labelX - cx) < 12 ? "middle" : labelX > cx ? "start" : "end";
    drawing.append(svg("line", { class: "grid", x1: cx, y1: cy, x2: x, y2: y }));
    // Of two words each on its own line.
    const words = taskName(row.task).split(" ");
    const lines = [words[0], words.slice(1).join(" ")].filter(Boolean);
    const lift = labelY < cy - radius ? 13 * (lines.length - 1) : 6 * (lines.length - 1) - 4;
    drawing.append(svg("text", { "text-anchor": anchor, y: labelY - lift }, lines.map((line, order) =>
      svg("tspan", { x: labelX, dy: order ? 13 : 0 }, line))));
  });
  series.forEach((one, column) => {
    if (rows.some((row) => !row.cells[column])) return;
    const shape = svg("polygon", { class: one.colour ? "own" : "published", "stroke-dasharray": one.dash, points: ring(rows.map((row) => row.cells[column].at[0])) });
    drawing.append(one.colour ? styled(shape, { stroke: one.colour, fill: one.colour }) : shape);
  });
  series.forEach((one, column) => rows.forEach((row, place) => {
    if (row.cells[column]) drawing.append(one.point(...at(place, row.cells[column].at[0])));
  }));
  return drawing;
}

function compared({ first, second, metric, rows }) {
  const [one, other] = [first, second].map((run) => PAGE.looks[1 + run].name);
  return [chip(1 + second), ` ${other} minus `, chip(1 + first), ` ${one}: ${metric} `, difference(rows.at(-1).cell)];
}

function comparison(found) {
  const names = [found.first, found.second].map((run) => PAGE.looks[1 + run].letter);
  const columns = ["task", "n", `${found.metric}, ${names[1]} minus ${names[0]}`, `only ${names[0]} right`, `only ${names[1]} right`, "McNemar's p"];
  const rows = found.rows.map((row) => [
    taskName(row.task), number(row.n), difference(row.cell),
    ...row.only.map((count, side) => filterLink({
      ...(row.task === null ? {} : { task: PAGE.tasks[row.task][0] }),
      right: runs().length === 2 ? `only-${names[side]}` : `${names[side]}-not-${names[1 - side]}`,
    }, number(count))),
    row.p,
  ]);
  const [first, second] = [found.first, found.second].map((run) => PAGE.looks[1 + run].name);
  return el(
    "div", { class: "comparison" },
    el("p", { class: "hint" }, chip(1 + found.second), ` ${second} minus `, chip(1 + found.first), ` ${first}, percentage points, each with its ${INTERVAL}.`),
    found.caution ? el("p", { class: "caution" }, found.caution) : null,
    table(`${second} minus ${first}`, columns, rows, columns.length - 1),
  );
}

function difference(found) {
  const [, low, high] = found.at;
  return el("span", { class: low > 0 || high < 0 ? "clear" : "" }, written(found));
}

const filterLink = (filter, text) => el("a", { href: hashOf({ ...filter }) }, text);

function countLink(count, own, filter) {
  if (!count) return el("span", { class: "none" }, "0");
  const total = own.reduce((sum, one) => sum + one, 0);
  const link = filterLink(filter, number(count));
  link.className = "share";
  return styled(link, { "--share": `${Math.round((100 * count) / total)}%` });
}

// Horizontal bars: what there is, how often.
function histogram({ title, bars }) {
  const most = Math.max(1, ...bars.map(([, count]) => count));
  return el(
    "section", { class: "chart" }, el("h3", {}, title),
    el("dl", {}, bars.map(([name, count]) => [
      el("dt", {}, name),
      el("dd", {}, styled(el("span", { class: "bar" }), { width: `${(100 * count) / most}%` }), el("span", {}, number(count))),
    ])),
  );
}
