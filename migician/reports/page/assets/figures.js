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
  const marks = sample.marks.filter((mark) => mark[1] === place || isOnAll(mark));
  const boxes = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  // A white rim below all lines; what is dashed on top, on a white line of its own, as is what is dotted; and each line narrower than
  // those below it: boxes that coincide are all seen.
  const ordered = [...marks].sort((one, other) => breadth(other[0]) - breadth(one[0]));
  for (const mark of ordered) boxes.append(line(mark, "rim", "#fff", 1.2));
  for (const mark of ordered) {
    const { look, colour } = PAGE.looks[mark[0]];
    const dotted = isOnAll(mark);
    if (mark[0] === 0 || dotted) boxes.append(line(mark, "rim", "#fff", dotted));
    boxes.append(line(mark, `mark ${dotted ? "dotted" : look}`, colour, dotted));
  }
  figure.append(boxes);
  if (tags) for (const mark of marks) figure.append(...tag(mark));
  return figure;
}

// Whether no image is named for a box: it is drawn on all of them, dotted.
const isOnAll = (mark) => mark[1] === null;

// How broad the line of a look is, in pixels of a card.
function breadth(look) {
  const solid = PAGE.looks.length - 1;
  return look ? 2 + (1 + solid - look) * Math.min(1.5, 3 / solid) : 2;
}

const span = (one, other) => [Math.min(one, other), Math.abs(other - one)];

// Also a box whose corners are in the wrong order is drawn between them: a drawing shows what was written.
function line([look, , x1, y1, x2, y2], kind, stroke, more) {
  const [[x, width], [y, height]] = [span(x1, x2), span(y1, y2)];
  return styled(svg("rect", { class: kind, "data-look": look, x, y, width, height }), { stroke, "--breadth": breadth(look) + Number(more) });
}

function tag([look, , x1, y1, x2, y2, label]) {
  const text = label ?? PAGE.looks[look].letter;
  if (!text) return [];
  const { colour } = PAGE.looks[look];
  const [left, top] = [Math.min(x1, x2), Math.min(y1, y2)].map((at) => `${100 * Math.min(Math.max(at, 0), 0.96)}%`);
  // Letters of runs stand side by side, also where their boxes coincide.
  const place = { left, top, "--after": label ? 0 : look - 1 };
  return [styled(el("span", { class: "tag" }, String(text)), { ...place, "--colour": colour, "--on": inkOn(colour) })];
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
