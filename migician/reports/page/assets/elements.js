// What the page shows, as `write_index` was given it.
const PAGE = JSON.parse(document.getElementById("data").textContent);

// Elements from plain values. Texts of runs and datasets only ever become text nodes and attributes, never markup.
const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null));
  return node;
}

const el = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

// The policy of the page allows no style in markup, so it is set here.
function styled(node, styles) {
  for (const [name, value] of Object.entries(styles)) node.style.setProperty(name, value);
  return node;
}

const number = (value) => value.toLocaleString("en");
const outcomeName = (place) => PAGE.outcomes[place].replaceAll("_", " ");
const taskName = (place) => (place === null ? "average of tasks" : PAGE.tasks[place][1]);

// A line as boxes are drawn with, and the letter of its run.
function key(look) {
  const { colour, look: kind, letter } = PAGE.looks[look];
  const line = styled(el("span", { class: `line ${kind}` }), { "--colour": colour });
  return el("span", { class: "key" }, line, letter ? chip(look) : null);
}

// For every legend: each look, and what dots mean where any of the samples has them.
function looks(samples) {
  const dotted = samples.some((sample) => sample.marks.some(isOnAll));
  return [
    PAGE.looks.map((look, at) => el("span", {}, key(at), look.name)),
    dotted ? el("span", {}, el("span", { class: "line dotted" }), "dotted: no image is named for the box, so it is drawn on all") : null,
  ];
}

function chip(look) {
  const { colour, letter } = PAGE.looks[look];
  return styled(el("span", { class: "chip" }, letter), { "--colour": colour, "--on": inkOn(colour) });
}

// Black or white, whichever reads better on a colour (WCAG's relative luminance).
function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5]
    .map((at) => parseInt(colour.slice(at, at + 2), 16) / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

// A table that scrolls within itself where it is wider than the page. Cells are texts, figures or nodes.
function table(caption, columns, rows, numbers) {
  const left = columns.length - numbers;
  const side = (place) => (place < left ? "name" : "number");
  return el(
    "div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    el(
      "table", {},
      el("thead", {}, el("tr", {}, columns.map((name, at) => el("th", { scope: "col", class: side(at) }, name)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((one, at) =>
        el(at ? "td" : "th", { class: side(at), scope: at ? null : "row" }, cell(one)))))),
    ),
  );
}

// A figure is {at: [value, low, high], text, interval}: it is drawn at its value, and shown as the texts that come with
// it. Nothing here rounds, so that the page has the digits of every table.
function cell(value) {
  return Array.isArray(value?.at) ? written(value) : value ?? "";
}

function written({ text, interval }) {
  return interval ? [text, " ", el("small", {}, interval)] : text;
}
