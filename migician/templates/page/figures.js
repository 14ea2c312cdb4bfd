// An image with the boxes over it: the picture is untouched, the boxes lie above it as fractions of its size.
function picture(sample, place, { lazy = true, tags = false } = {}) {
  const [file, width, height, name] = PAGE.images[sample.images[place]];
  const figure = el("figure", { class: "picture" });
  styled(figure, { "--aspect": width / height });
  if (file) {
    figure.append(el("img", {
      src: `images/${file}`, alt: `Image-${place + 1}`, loading: lazy ? "lazy" : null, decoding: "async",
    }));
  } else {
    figure.append(el("span", { class: "gap" }, `cannot be shown: ${name}`));
  }
  const marks = sample.marks.filter((mark) => mark[1] === place);
  const boxes = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  // All rims first; then what is solid, and what is dashed above it, so that a truth shows on a box that hits it.
  for (const mark of marks) boxes.append(rectangle(mark, "rim"));
  const dashed = (mark) => PAGE.looks[mark[0]].look !== "run";
  for (const mark of [...marks].sort((one, other) => dashed(one) - dashed(other))) {
    boxes.append(styled(rectangle(mark, `mark ${PAGE.looks[mark[0]].look}`), { stroke: PAGE.looks[mark[0]].colour }));
  }
  figure.append(boxes);
  if (tags) for (const mark of marks) figure.append(...tag(mark));
  return figure;
}

const span = (one, other) => [Math.min(one, other), Math.abs(other - one)];

// Also a box whose corners are in the wrong order is drawn between them: a drawing shows what was written.
function rectangle([look, , x1, y1, x2, y2], kind) {
  const [[x, width], [y, height]] = [span(x1, x2), span(y1, y2)];
  return svg("rect", { class: kind, "data-look": look, x, y, width, height });
}

function tag([look, , x1, y1, x2, y2, label]) {
  const text = label ?? PAGE.looks[look].letter;
  if (!text) return [];
  const { colour } = PAGE.looks[look];
  const [left, top] = [Math.min(x1, x2), Math.min(y1, y2)].map((at) => `${100 * Math.min(Math.max(at, 0), 0.96)}%`);
  return [styled(el("span", { class: "tag" }, String(text)), { left, top, "--colour": colour, "--on": inkOn(colour) })];
}

// All images of a sample in a frame of 16 to 10, in as many rows as shows them largest.
function contactSheet(sample) {
  const aspects = sample.images.map((image) => PAGE.images[image][1] / PAGE.images[image][2]);
  const frame = 1.6;
  let best = { height: 0, rows: 1 };
  for (let rows = 1; rows <= aspects.length; rows++) {
    const each = Math.ceil(aspects.length / rows);
    let widest = 0;
    for (let at = 0; at < aspects.length; at += each) {
      widest = Math.max(widest, aspects.slice(at, at + each).reduce((sum, one) => sum + one, 0));
    }
    const height = Math.min(1 / rows, frame / widest);
    if (height > best.height) best = { height, rows, each };
  }
  const sheet = el("div", { class: "sheet" });
  for (let at = 0; at < aspects.length; at += best.each) {
    const row = el("div", { class: "strip" });
    for (let place = at; place < Math.min(at + best.each, aspects.length); place++) {
      // A little less than what fits, for the gaps.
      row.append(styled(picture(sample, place), { width: `${(96 * best.height * aspects[place]) / frame}%` }));
    }
    sheet.append(row);
  }
  return sheet;
}
