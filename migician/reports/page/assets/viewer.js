// One sample, large: its images with every box, the whole question and every reply.
const viewer = document.getElementById("viewer");
const view = { sample: null };

function openSample(id) {
  const sample = PAGE.samples.find((one) => one.id === id);
  if (!sample) return closeSample();
  view.sample = sample;
  viewer.replaceChildren(bar(sample), el("div", { class: "body" }, images(sample), texts(sample)));
  if (!viewer.open) viewer.showModal();
  viewer.scrollTop = 0;
  viewer.querySelector("h2").focus({ preventScroll: true });
}

function closeSample() {
  if (!viewer.open) return;
  viewer.close();
  // Back to where one was, which after some steps is another card than the one that was clicked.
  while (!document.getElementById(`card-${view.sample.id}`) && state.drawn < state.shown.length && state.shown.includes(view.sample)) drawMore();
  const last = document.getElementById(`card-${view.sample.id}`);
  last?.focus({ preventScroll: true });
  last?.scrollIntoView({ block: "nearest" });
}

// The samples that left and right lead to: those of the filter, or all where this one is not among them.
function row() {
  return state.shown.includes(view.sample) ? state.shown : PAGE.samples;
}

function step(by) {
  const next = row()[row().indexOf(view.sample) + by];
  if (next) goTo(hashOf(state.filter, next.id));
}

function goTo(hash) {
  history.replaceState(null, "", hash);
  follow();
}

const leave = () => goTo(hashOf(state.filter));

function bar(sample) {
  const samples = row();
  const place = samples.indexOf(sample);
  return el(
    "div", { class: "bar-top" },
    el("h2", { id: "viewer-title", tabindex: "-1" }, sample.name ?? `row ${sample.id}`, el("span", {}, taskName(sample.task))),
    el("span", { class: "place" }, `${number(place + 1)} of ${number(samples.length)}`),
    el("button", { type: "button", "aria-label": "Previous sample", title: "Previous: left arrow", disabled: place === 0, onclick: () => step(-1) }, "←"),
    el("button", { type: "button", "aria-label": "Next sample", title: "Next: right arrow", disabled: place === samples.length - 1, onclick: () => step(1) }, "→"),
    el("button", { type: "button", "aria-label": "Close", title: "Close: Escape", onclick: leave }, "✕"),
  );
}

function images(sample) {
  const many = sample.images.length;
  const wall = styled(el("div", { class: "wall" }), { "--high": many === 1 ? "70vh" : many === 2 ? "40vh" : many <= 4 ? "33vh" : "27vh" });
  sample.images.forEach((image, place) => wall.append(el(
    "div", { class: "shown" }, picture(sample, place, { lazy: false, tags: true }),
    el("p", { class: "caption" }, el("b", {}, `Image-${place + 1}`), ` ${PAGE.images[image][3].split("/").pop()}`),
  )));
  for (const shown of wall.children) styled(shown, { "--aspect": shown.firstChild.style.getPropertyValue("--aspect") });
  return wall;
}

function texts(sample) {
  return el(
    "div", { class: "texts" },
    el("div", { class: "legend" }, looks([sample])),
    el("dl", {}, sample.texts.map(([whose, text, note]) => [
      el("dt", {}, typeof whose === "number" ? [PAGE.looks[1 + whose].letter ? chip(1 + whose) : null, PAGE.looks[1 + whose].name] : whose),
      el("dd", {}, el("p", { class: text === null ? "words none" : "words" }, text ?? "no reply"),
        typeof whose === "number" ? verdict(sample, whose, note) : null),
    ])),
    sample.raw ? fold("As written", [el("pre", { tabindex: "0" }, sample.raw)]) : null,
  );
}

function verdict(sample, run, note) {
  const outcome = sample.outcomes[run];
  const right = PAGE.outcomes[outcome] === "correct";
  return el("p", { class: "verdict" }, el("span", { class: right ? "fit right" : "fit" }, outcomeName(outcome)), note ? ` ${note}` : "");
}

viewer.addEventListener("cancel", (event) => { event.preventDefault(); leave(); });
viewer.addEventListener("click", (event) => { if (event.target === viewer) leave(); });
document.addEventListener("keydown", (event) => {
  if (!viewer.open || event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "PRE") return;
  if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    step(event.key === "ArrowLeft" ? -1 : 1);
  }
});
