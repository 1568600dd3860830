// What the server pushes, put on the page. One stream of events; choosing a market asks for another.

import { amount, byId, bytes, clock, day, decimals, make, mark, price, span, spark, write } from "./draw.js";

const STATES = ["complete", "suspect", "missing", "unverifiable"];
const WORDS = { recording: "Recording", silent: "Silent", stopped: "Stopped", unknown: "No recorder" };
const HOUR = 3_600_000;
const LEVELS = 12;

let stream = null;
let chosen = null;
let order = null;
let filter = "";
let shown = [];
let past = null;
let everything = true;
let sparks = {};
const rows = new Map();
const names = new Intl.Collator("en", { numeric: true });
const spread = ({ bid, ask }) => (bid !== null && ask !== null && bid + ask ? ((ask - bid) / ((ask + bid) / 2)) * 10_000 : null);
const SORTS = {
  name: (market) => market.m,
  move: (market) => { const line = sparks[market.m] ?? []; return line.length > 1 ? line.at(-1) / line[0] - 1 : null; },
  // As coarse as it is shown, and no finer: rows that change places twice a second cannot be read.
  spread: (market) => { const bp = spread(market); return bp === null ? null : Math.round(bp * 10); },
  rate: (market) => Math.round(market.rate),
  // Never heard is the oldest there is.
  age: (market) => (market.state === "live" ? 0 : market.age === null ? Infinity : Math.round(market.age / 1000)),
};

function listen() {
  stream?.close();
  stream = new EventSource(chosen === null ? "/events" : `/events?market=${encodeURIComponent(chosen)}`);
  const on = (name, show) => stream.addEventListener(name, (event) => show(JSON.parse(event.data)));
  on("about", showAbout);
  on("now", showNow);
  on("sparks", (lines) => { sparks = lines; showSparks(); });
  on("disk", showDisk);
  on("calendar", (calendar) => { past = calendar; showCalendar(); });
  stream.onopen = () => { byId("banner").hidden = true; };
  stream.onerror = () => {
    write(byId("banner"), "The page's server is out of reach; what you see is old. Trying again.");
    byId("banner").hidden = false;
    mark(byId("dot"), "dot");
  };
}

// What was chosen stands in the address, so that it can be kept, sent, and gone back to:
// `#MARKET`, `#MARKET&sort=-age&filter=perp`.
function readAddress() {
  const [market, ...rest] = location.hash.slice(1).split("&");
  const given = new URLSearchParams(rest.join("&"));
  try {
    chosen = decodeURIComponent(market) || null;
  } catch {
    chosen = null; // a percent sign too many, typed by hand
  }
  filter = given.get("filter") ?? "";
  const [, down, key] = /^(-?)(\w+)$/.exec(given.get("sort") ?? "") ?? [];
  order = Object.hasOwn(SORTS, key ?? "") ? { key, down: down === "-" } : null;
  byId("filter").value = filter;
}

function writeAddress() {
  const given = new URLSearchParams();
  if (order) given.set("sort", `${order.down ? "-" : ""}${order.key}`);
  if (filter) given.set("filter", filter);
  const rest = given.toString();
  history.replaceState(null, "", `#${encodeURIComponent(chosen ?? "")}${rest ? `&${rest}` : ""}`);
}

function choose(symbol) {
  if (symbol === chosen) return;
  chosen = symbol;
  writeAddress();
  for (const [name, row] of rows) mark(row.line, name === chosen ? "chosen" : "");
  if (past) showCalendar();
  listen();
}

// A first press sorts as one most likely wants it, a second the other way round, a third as it was.
function sortBy(key) {
  const first = key !== "name";
  if (order?.key !== key) order = { key, down: first };
  else order = order.down === first ? { key, down: !first } : null;
  writeAddress();
  showRows(shown);
}

function filterBy(text) {
  filter = text;
  byId("filter").value = text;
  writeAddress();
  showRows(shown);
}

// Those whose value is unknown are last, whichever way it goes.
function sorted(markets) {
  if (!order) return markets;
  const value = SORTS[order.key], way = order.down ? -1 : 1;
  return markets.map((market) => [value(market), market]).sort(([a, one], [b, other]) => {
    if (a === null || b === null) return (a === null) - (b === null) || names.compare(one.m, other.m);
    return way * (typeof a === "string" ? names.compare(a, b) : a - b) || names.compare(one.m, other.m);
  }).map(([, market]) => market);
}

function matching(markets) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return markets.filter((market) => {
    const text = `${market.m} ${market.type} ${market.state}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function showAbout(about) {
  write(byId("venue"), about.venue);
  write(byId("about"), `${about.root} · ${about.network} · page ${about.page} · times are UTC.`);
}

function showNow(now) {
  showRecorder(now.recorder, now.rows);
  if (chosen === null) chosen = now.chosen;
  showRows(now.rows);
  showBook(now.book, now.now, now.chosen);
  showTrades(now.trades, now.chosen);
  showHoles(now.holes, now.counts, now.recorder.state);
  document.body.dataset.updates = String(Number(document.body.dataset.updates ?? 0) + 1);
}

function showRecorder(recorder, markets) {
  const live = markets.filter((row) => row.state === "live").length;
  mark(byId("dot"), `dot ${recorder.state}`);
  mark(byId("state"), `pill ${recorder.state}`);
  write(byId("state"), WORDS[recorder.state] ?? recorder.state);
  const facts = [];
  if (recorder.state === "recording") {
    if (recorder.since) facts.push(`for ${span(Date.now() - recorder.since)}`);
    if (recorder.runs.length > 1) facts.push(`${recorder.runs.length} runs beside one another`);
    facts.push(`${recorder.connections} connection${recorder.connections === 1 ? "" : "s"}`, `on ${recorder.host}`, `version ${recorder.version}`);
  } else if (recorder.age !== null) {
    facts.push(`last entry ${span(recorder.age)} ago`);
    if (recorder.why) facts.push(recorder.why);
  }
  write(byId("facts"), facts.join(" · "));
  write(byId("streams"), `${recorder.streams}`);
  write(byId("streams-more"), `${live} of ${markets.length} markets live`);
  mark(byId("streams"), live < markets.length && recorder.state === "recording" ? "big bad" : "big");
  const rate = markets.reduce((sum, row) => sum + row.rate, 0);
  write(byId("frames"), `${rate.toFixed(rate < 100 ? 1 : 0)} /s`);
  write(byId("frames-more"), recorder.age === null ? "" : `last entry ${span(recorder.age)} ago`);
  write(byId("durable"), recorder.durable === null ? "–" : `${recorder.durable.toFixed(0)} ms`);
  const untold = recorder.state === "recording" ? "told once a minute" : "";
  write(byId("durable-more"), recorder.commit === null ? untold : `p99 · loop lag ${recorder.lag.toFixed(1)} ms`);
  document.title = `${recorder.state === "recording" ? "●" : "○"} ${live}/${markets.length} drift-recorder`;
}

function makeRow(symbol) {
  const line = make("tr", symbol === chosen ? "chosen" : "");
  const name = make("td");
  const button = make("button", "", symbol);
  button.type = "button";
  button.title = symbol;
  name.append(button);
  const cells = { spark: make("td", "spark"), bid: make("td", "num wide"), ask: make("td", "num wide"),
    mid: make("td", "num narrow"), spread: make("td", "num wide"), last: make("td", "num wide roomy"),
    rate: make("td", "num wide roomy muted"), age: make("td", "num age") };
  line.append(name, ...Object.values(cells));
  line.addEventListener("click", () => choose(symbol));
  return { line, ...cells };
}

function showSorts() {
  for (const head of byId("sorts").children) {
    const key = head.dataset.sort;
    if (!key) continue;
    const way = order?.key === key ? (order.down ? "descending" : "ascending") : "none";
    if (head.getAttribute("aria-sort") !== way) head.setAttribute("aria-sort", way);
  }
}

function showRows(all) {
  shown = all;
  const markets = sorted(matching(all));
  const body = byId("rows");
  const focused = document.activeElement;
  showSorts();
  write(byId("rows-more"), markets.length < all.length ? `${markets.length} of ${all.length}` : all.length ? `${all.length}` : "");
  const wanted = new Set(markets.map((row) => row.m));
  for (const [symbol, row] of rows) {
    if (!wanted.has(symbol)) { row.line.remove(); rows.delete(symbol); }
  }
  markets.forEach((market, n) => {
    let row = rows.get(market.m);
    if (!row) {
      row = makeRow(market.m);
      rows.set(market.m, row);
      spark(row.spark, sparks[market.m] ?? []);
    }
    if (body.children[n] !== row.line) body.insertBefore(row.line, body.children[n] ?? null);
    const both = market.bid !== null && market.ask !== null;
    const mid = both ? (market.bid + market.ask) / 2 : null;
    const places = mid === null ? undefined : decimals(mid);
    write(row.bid, price(market.bid, places));
    write(row.ask, price(market.ask, places));
    write(row.mid, price(mid, places));
    const wide = spread(market);
    write(row.spread, wide === null ? "–" : `${wide.toFixed(1)} bp`);
    write(row.last, price(market.last, places));
    write(row.rate, market.rate.toFixed(1));
    write(row.age, market.age === null ? "not lately" : span(market.age));
    mark(row.age, `num age ${market.state}`);
    mark(row.line, market.m === chosen ? "chosen" : "");
  });
  // A row that is moved loses the focus.
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  byId("no-rows").hidden = all.length > 0;
  write(byId("no-rows"), "No recorder has written to this journal within the last minutes.");
  byId("no-match").hidden = markets.length > 0 || all.length === 0;
}

function showSparks() {
  for (const [symbol, row] of rows) spark(row.spark, sparks[symbol] ?? []);
}

function level(side) {
  const line = make("div", `level ${side}`);
  line.append(make("i"), make("span"), make("span"), make("span"));
  return line;
}

function ladder() {
  const levels = byId("levels");
  if (levels.firstChild) return levels;
  const head = make("div", "level head");
  head.append(make("span", "", "Price"), make("span", "", "Size"), make("span", "", "Sum"));
  const between = make("div", "between");
  between.append(make("b"), make("small", "muted"));
  levels.append(head, ...Array.from({ length: LEVELS }, () => level("ask")), between,
    ...Array.from({ length: LEVELS }, () => level("bid")));
  return levels;
}

function showBook(book, now, symbol) {
  const levels = ladder();
  write(byId("book-name"), book ? book.label : symbol ?? "Book");
  write(byId("book-more"), book ? `${span(now - book.at)} ago${book.slot === null ? "" : ` · slot ${book.slot}`}` : "no book yet");
  const asks = book?.asks ?? [], bids = book?.bids ?? [];
  const sums = (side) => { let sum = 0; return side.map(([, size]) => (sum += size)); };
  const askSums = sums(asks), bidSums = sums(bids);
  const deepest = Math.max(askSums.at(-1) ?? 0, bidSums.at(-1) ?? 0) || 1;
  const middle = asks.length && bids.length ? (asks[0][0] + bids[0][0]) / 2 : null;
  const places = decimals(middle ?? asks[0]?.[0] ?? bids[0]?.[0] ?? 1);
  const put = (line, entry, sum) => {
    line.style.visibility = entry ? "visible" : "hidden";
    if (!entry) return;
    line.children[0].style.width = `${(sum / deepest) * 100}%`;
    write(line.children[1], price(entry[0], places));
    write(line.children[2], amount(entry[1]));
    write(line.children[3], amount(sum));
  };
  for (let n = 0; n < LEVELS; n++) {
    put(levels.children[LEVELS - n], asks[n], askSums[n]);
    put(levels.children[LEVELS + 2 + n], bids[n], bidSums[n]);
  }
  const between = levels.children[LEVELS + 1];
  write(between.children[0], price(middle, places));
  const width = middle === null ? null : asks[0][0] - bids[0][0];
  write(between.children[1], width === null ? "one side is empty" : `spread ${price(width, places)} · ${((width / middle) * 10_000).toFixed(1)} bp`);
}

function showTrades(trades, symbol) {
  write(byId("trades-name"), symbol ?? "");
  byId("no-trades").hidden = trades.length > 0;
  const body = byId("trades");
  const key = trades.length ? `${symbol}/${trades[0].n}/${trades.map((trade) => (trade.after ? 1 : 0)).join("")}` : "";
  if (body.dataset.key === key) return;
  body.dataset.key = key;
  body.replaceChildren(...trades.map((trade) => {
    const line = make("tr", [trade.market ? "" : "transfer", trade.after ? "after" : ""].join(" ").trim());
    if (!trade.market) line.title = "a position transfer: no trade";
    else if (trade.after) line.title = "trades may be missing before this one: see the holes";
    line.append(make("td", "muted", clock(trade.at)),
      make("td", trade.side ?? "muted", trade.side === "buy" ? "▲ buy" : trade.side === "sell" ? "▼ sell" : "–"),
      make("td", "num", price(trade.price)), make("td", "num", amount(trade.size)));
    return line;
  }));
}

function showHoles(holes, counts, state) {
  const list = byId("holes");
  const total = Object.values(counts).reduce((sum, n) => sum + n, 0);
  write(byId("holes-more"), total ? `${total} since this page began to read` : "");
  byId("no-holes").hidden = holes.length > 0;
  // Where nobody listens nothing is missing that anybody could tell.
  write(byId("no-holes"), state === "recording" ? "Nothing is missing from the last minutes." : "Nothing was heard that could tell.");
  const key = holes.length ? String(holes[0].n) : "";
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...holes.map((hole) => {
    const item = make("li", hole.kind === "noticed" ? "noticed" : hole.quiet ? "quiet" : "hole");
    const title = make("span");
    title.append(make("b", "", hole.kind.replaceAll("_", " ")));
    if (hole.place) title.append(make("span", "muted", ` ${hole.place}`));
    const tags = [];
    if (hole.lasted_s) tags.push(span(hole.lasted_s * 1000));
    if (hole.missing) tags.push(`${hole.missing} missing`);
    if (hole.cause && !hole.quiet) tags.push(hole.cause);
    item.append(make("time", "", clock(hole.at)), title, make("span", "tag", tags.join(" · ")), make("span", "words", hole.words));
    return item;
  }));
}

function showDisk(disk) {
  if (disk.total === undefined) return;
  write(byId("disk"), `${bytes(disk.free)} free`);
  write(byId("disk-more"), disk.days === null ? `of ${bytes(disk.total)}` : `${disk.days < 1000 ? disk.days : "over 1000"} days at this rate`);
  byId("disk-meter").style.width = `${100 - (disk.free / disk.total) * 100}%`;
  mark(byId("disk-meter"), disk.free < disk.total / 20 ? "low" : "");
  write(byId("journal"), bytes(disk.bytes));
  byId("journal-more").title = disk.oldest === null ? "" : `since ${day(disk.oldest)} ${clock(disk.oldest)}`;
  write(byId("journal-more"), disk.daily === null ? byId("journal-more").title : `${bytes(disk.daily)} a day`);
}

function worst([complete, suspect, missing, unverifiable]) {
  if (missing > 0.0005) return "missing";
  if (suspect > 0.0005) return "suspect";
  return unverifiable > complete ? "unverifiable" : "complete";
}

// The hour as a glass: what is complete below, what is not above it; the least hole is seen.
function stacked(hour) {
  const [complete, suspect, missing, unverifiable] = hour.map((share, n) => (n > 0 && n < 4 && share > 0 ? Math.max(share, 0.14) : share));
  const total = complete + suspect + missing + unverifiable;
  let at = 0;
  const bands = [["good", complete], ["unknown", unverifiable], ["warn", suspect], ["bad", missing]].map(([name, share]) => {
    const from = at;
    at += (share / total) * 100;
    return `var(--${name}) ${from.toFixed(1)}% ${at.toFixed(1)}%`;
  });
  return `linear-gradient(to top, ${bands.join(", ")})`;
}

function percent(share) {
  // Rounded down: what is not whole must not be shown as if it were.
  return share === 1 ? "100 %" : `${(Math.floor(share * 10_000) / 100).toFixed(2)} %`;
}

function showCalendar() {
  const names = Object.keys(past.hours);
  byId("no-calendar").hidden = names.length > 0;
  write(byId("no-calendar"), past.problem || "No hour of the last days is sealed yet: one is, a minute and a bit after it is over.");
  const one = chosen !== null && !everything && names.includes(chosen);
  byId("calendar-all").setAttribute("aria-pressed", String(!one));
  byId("calendar-one").setAttribute("aria-pressed", String(one));
  byId("calendar-one").hidden = chosen === null || !names.includes(chosen);
  write(byId("calendar-one"), chosen ?? "");
  const hours = past.hours[one ? chosen : ""] ?? Array(past.days * 24).fill(null);
  write(byId("sealed"), past.sealed === null ? "–" : `${clock(past.sealed).slice(0, 5)} UTC`);
  const late = past.sealed === null ? null : Date.now() - past.sealed;
  write(byId("sealed-more"), past.sealed === null ? "no whole hour yet" : `${day(past.sealed)} · ${late < HOUR ? "up to date" : `${span(late)} ago`}`);
  const head = make("div", "day head");
  head.append(make("span"), ...Array.from({ length: 24 }, (_, n) => make("span", "", n % 6 ? "" : String(n).padStart(2, "0"))), make("span", "share", "complete"));
  const days = [head];
  for (let d = 0; d < past.days; d++) {
    const begins = past.start + d * 24 * HOUR;
    const line = make("div", "day");
    line.append(make("span", "label", day(begins)));
    let judged = 0, complete = 0;
    for (let h = 0; h < 24; h++) {
      const at = begins + h * HOUR, hour = hours[d * 24 + h];
      const cell = make("span", "hour");
      const named = `${day(at)} ${String(h).padStart(2, "0")}:00 UTC`;
      if (hour) {
        cell.classList.add(`c-${worst(hour)}`);
        cell.style.background = stacked(hour);
        if (!hour[4]) cell.classList.add("open");
        if (hour[5]) {
          // Whatever was proven of it: its rows are gone.
          cell.className = "hour c-expired";
          cell.style.background = "";
          cell.title = `${named}: expired, its rows were removed by rule`;
          line.append(cell);
          continue;
        }
        const shares = STATES.map((name, n) => [name, hour[n]]).filter(([, share]) => share > 0);
        const when = `${named}${hour[4] ? "" : ", so far"}${at < past.begun ? ", from the first run on" : ""}`;
        cell.title = `${when}: ${shares.map(([name, share]) => `${percent(share)} ${name}`).join(", ")}`;
        judged += 1;
        complete += hour[0];
      } else {
        const words = at > Date.now() ? "to come" : at < past.begun ? "before anything was recorded" : "not sealed";
        if (words !== "not sealed") cell.classList.add("future");
        cell.title = `${named}: ${words}`;
      }
      line.append(cell);
    }
    line.append(make("span", "share", judged ? percent(complete / judged) : "–"));
    days.push(line);
  }
  byId("calendar").replaceChildren(...days);
}

for (const [id, all] of [["calendar-all", true], ["calendar-one", false]]) {
  byId(id).addEventListener("click", () => { everything = all; if (past) showCalendar(); });
}
for (const head of byId("sorts").children) {
  if (!head.dataset.sort) continue;
  const button = make("button", "", head.textContent);
  button.type = "button";
  button.addEventListener("click", () => sortBy(head.dataset.sort));
  head.replaceChildren(button);
}
byId("filter").addEventListener("input", (event) => filterBy(event.target.value));
byId("unfilter").addEventListener("click", () => { filterBy(""); byId("filter").focus(); });
// `/` goes to the filter, Escape empties it, the arrows go from market to market.
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("filter").focus();
    byId("filter").select();
  } else if (event.key === "Escape" && event.target === byId("filter")) {
    filterBy("");
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    const buttons = [...byId("rows").querySelectorAll("button")];
    const at = buttons.indexOf(event.target), down = event.key === "ArrowDown";
    if (at < 0 && !(down && event.target === byId("filter"))) return;
    event.preventDefault();
    (buttons[at + (down ? 1 : -1)] ?? (at === 0 ? byId("filter") : null))?.focus();
  }
});
addEventListener("hashchange", () => {
  const before = chosen;
  readAddress();
  showRows(shown);
  if (past) showCalendar();
  if (chosen !== before) listen();
});
readAddress();
listen();
