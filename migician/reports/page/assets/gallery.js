// Every sample: filtered, sorted, and drawn a few at a time as the end of the page comes near.
// A sample is {id, task, images: [number], marks: [[look, image or null for all, x1, y1, x2, y2, label]],
// texts: [[whose, text, note]], outcomes: [of each run], ious: [[value, text] or null, of each run]}; `whose` is a run's
// number or a word.
const AT_ONCE = 24;
const FILTERS = ["task", "run", "outcome", "right", "from", "to", "text", "sort"];
const state = { shown: [], drawn: 0, filter: {} };

// What the address says after #: "row-12&task=diff&sort=low" is sample 12, among those of a filter.
function readHash() {
  const parts = location.hash.slice(1).split("&");
  const row = /^row-(\d+)$/.exec(parts[0]);
  const given = new URLSearchParams(parts.slice(row ? 1 : 0).join("&"));
  const filter = {};
  for (const name of FILTERS) if (given.get(name)) filter[name] = given.get(name);
  return { row: row ? Number(row[1]) : null, filter };
}

function hashOf(filter, row = null) {
  const words = FILTERS.filter((name) => filter[name] !== undefined && filter[name] !== "")
    .map((name) => `${name}=${encodeURIComponent(filter[name])}`);
  if (row !== null) words.unshift(`row-${row}`);
  return `#${words.join("&") || "all"}`;
}

function drawControls() {
  const form = document.getElementById("filters");
  const several = runs().length > 1;
  const controls = [select("task", PAGE.kind === "runs" ? "Task" : "Type", [["", "all"], ...PAGE.tasks])];
  if (PAGE.kind === "runs") {
    if (several) controls.push(select("run", "Run", runs().map((run, at) => [at ? String(at) : "", `${run.letter}  ${run.name}`])));
    controls.push(select("outcome", "Outcome", [["", "any"], ...PAGE.outcomes.map((name, at) => [name, outcomeName(at)])]));
    if (several) controls.push(select("right", "Right", rightChoices()));
    if (PAGE.samples.some((sample) => sample.ious.some((iou) => iou !== null))) {
      controls.push(
        field("from", "IoU from", { type: "number", min: 0, max: 1, step: 0.05, placeholder: "0" }),
        field("to", "to", { type: "number", min: 0, max: 1, step: 0.05, placeholder: "1" }),
        select("sort", "Order", [["", "as in the file"], ["low", "lowest IoU first"], ["high", "highest IoU first"]]),
      );
    }
  }
  controls.push(field("text", "Text", { type: "search", placeholder: PAGE.kind === "runs" ? "in question or reply" : "in question or answer" }));
  form.append(...controls, el("button", { type: "reset" }, "Reset"));
  form.addEventListener("input", () => setFilter(formFilter()));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); setFilter({}); });
  filled(document.getElementById("legend"), {}, looks(PAGE.samples));
  document.getElementById("more").addEventListener("click", drawMore);
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && drawMore(), { rootMargin: "800px" })
    .observe(document.getElementById("more"));
}

function rightChoices() {
  const letters = runs().map((run) => run.letter);
  const alone = letters.map((letter) => [`only-${letter}`, `only ${letter}`]);
  const pairs = letters.length > 2
    ? letters.flatMap((one) => letters.filter((other) => other !== one).map((other) => [`${one}-not-${other}`, `${one}, not ${other}`]))
    : [];
  const words = letters.length > 2 ? ["all", "none"] : ["both", "neither"];
  return [["", "any"], ...alone, ["all", words[0]], ["none", words[1]], ...pairs];
}

const labelled = (name, label, control) => el("div", { class: `field ${name}` }, el("label", { for: `by-${name}` }, label), control);
const select = (name, label, choices) => labelled(name, label,
  el("select", { name, id: `by-${name}` }, choices.map(([value, text]) => el("option", { value }, text))));
const field = (name, label, attributes) => labelled(name, label, el("input", { name, id: `by-${name}`, ...attributes }));

function formFilter() {
  return Object.fromEntries([...new FormData(document.getElementById("filters"))].filter(([, value]) => value !== ""));
}

// Typing is no step in the history of the browser.
function setFilter(filter) {
  history.replaceState(null, "", hashOf(filter));
  applyFilter(filter);
}

function applyFilter(filter) {
  state.filter = filter;
  for (const control of document.getElementById("filters").elements) {
    if (control.name && control.value !== (filter[control.name] ?? "")) control.value = filter[control.name] ?? "";
  }
  state.shown = ordered(PAGE.samples.filter(fits(filter)), filter);
  const total = number(PAGE.samples.length);
  const count = state.shown.length;
  document.getElementById("count").textContent = count === PAGE.samples.length
    ? `${total} samples`
    : count ? `${number(count)} of ${total} samples` : `None of ${total} samples is like that: loosen a filter, or reset them.`;
  document.getElementById("cards").replaceChildren();
  state.drawn = 0;
  drawMore();
}

function fits(filter) {
  const task = PAGE.tasks.findIndex(([name]) => name === filter.task);
  const outcome = PAGE.outcomes.indexOf(filter.outcome);
  const run = Number(filter.run ?? 0);
  const [from, to] = [Number(filter.from ?? 0), Number(filter.to ?? 1)];
  const words = (filter.text ?? "").toLowerCase();
  const right = rightTest(filter.right);
  return (sample) =>
    (!filter.task || sample.task === task) &&
    (!filter.outcome || sample.outcomes[run] === outcome) &&
    ((filter.from === undefined && filter.to === undefined) || within(sample.ious[run]?.[0], from, to)) &&
    (!right || right(sample.outcomes.map((one) => PAGE.outcomes[one] === "correct"))) &&
    (!words || searched(sample).includes(words));
}

const within = (iou, from, to) => iou !== undefined && iou >= from && iou <= to;

function rightTest(choice) {
  if (!choice) return null;
  if (choice === "all") return (right) => right.every(Boolean);
  if (choice === "none") return (right) => !right.some(Boolean);
  const place = (letter) => runs().findIndex((run) => run.letter === letter);
  const [one, , other] = choice.split("-");
  if (one === "only") {
    const own = place(choice.slice(5));
    return (right) => right.every((is, at) => is === (at === own));
  }
  return (right) => right[place(one)] === true && right[place(other)] === false;
}

function searched(sample) {
  sample.searched ??= [`${sample.name ?? `row ${sample.id}`}`, ...sample.texts.map(([, text]) => text ?? ""),
    ...sample.images.map((image) => PAGE.images[image][3])].join("\n").toLowerCase();
  return sample.searched;
}

function ordered(samples, filter) {
  if (!filter.sort) return samples;
  const run = Number(filter.run ?? 0);
  const sign = filter.sort === "high" ? -1 : 1;
  return samples.sort((one, other) => sign * ((one.ious[run]?.[0] ?? 0) - (other.ious[run]?.[0] ?? 0)) || one.id - other.id);
}

function drawMore() {
  const next = state.shown.slice(state.drawn, state.drawn + AT_ONCE);
  document.getElementById("cards").append(...next.map(card));
  state.drawn += next.length;
  document.getElementById("more").hidden = state.drawn >= state.shown.length;
}

function card(sample) {
  const fit = sample.outcomes.map((outcome, run) => el(
    "span", { class: PAGE.outcomes[outcome] === "correct" ? "fit right" : "fit" },
    PAGE.looks[1 + run].letter ? chip(1 + run) : null,
    outcomeName(outcome), sample.ious[run] === null ? null : el("span", { class: "iou" }, `IoU ${sample.ious[run][1]}`),
  ));
  return el(
    "a", { class: "card", id: `card-${sample.id}`, href: hashOf(state.filter, sample.id) },
    contactSheet(sample),
    el("span", { class: "line1" }, el("b", {}, sample.name ?? `row ${sample.id}`), taskName(sample.task)),
    el("span", { class: "asked" }, sample.texts[0][1]),
    fit.length ? el("span", { class: "fits" }, fit) : null,
  );
}
