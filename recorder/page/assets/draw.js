// How things are written and drawn. Text from outside goes into the page as text only: `textContent`, never markup.

export const byId = (id) => document.getElementById(id);

export function make(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

// Writes only what differs: a page that is left open all day must not work for nothing.
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function mark(element, className) {
  if (element.className !== className) element.className = className;
}

// As many decimals as a price of this size needs, the same for all prices near it.
export function decimals(price) {
  const size = Math.abs(price);
  return size >= 1000 ? 2 : size >= 100 ? 3 : size >= 1 ? 4 : 6;
}

export function price(value, places = value === null ? 0 : decimals(value)) {
  return value === null || value === undefined
    ? "–"
    : value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

export function amount(value) {
  if (value === null || value === undefined) return "–";
  const places = value >= 1000 ? 0 : value >= 10 ? 2 : value >= 0.1 ? 3 : 5;
  return value.toLocaleString("en-US", { minimumFractionDigits: places, maximumFractionDigits: places });
}

export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let n = 0;
  for (; value >= 1000 && n < units.length - 1; n++) value /= 1000;
  return `${value >= 100 || n === 0 ? value.toFixed(0) : value.toFixed(1)} ${units[n]}`;
}

export function span(ms) {
  if (ms === null || ms === undefined) return "–";
  const s = Math.max(ms, 0) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${s.toFixed(0)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  return s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;
}

const two = (n) => String(n).padStart(2, "0");

// UTC throughout, as in the files.
export function clock(ms) {
  const at = new Date(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
}

export function day(ms) {
  return new Date(ms).toLocaleDateString("en-GB", { timeZone: "UTC", day: "2-digit", month: "short" });
}

const SVG = "http://www.w3.org/2000/svg";

export function spark(cell, points) {
  let svg = cell.firstChild;
  if (!svg) {
    svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 100 22");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(document.createElementNS(SVG, "path"));
    cell.append(svg);
  }
  if (points.length < 2) return svg.firstChild.removeAttribute("d");
  const low = Math.min(...points), high = Math.max(...points), range = high - low || 1;
  const at = (value, n) => `${((n / (points.length - 1)) * 100).toFixed(2)} ${(20 - ((value - low) / range) * 18).toFixed(2)}`;
  svg.firstChild.setAttribute("d", `M${points.map(at).join("L")}`);
  svg.firstChild.setAttribute("class", points.at(-1) >= points[0] ? "up" : "down");
}
