"use strict";

// The page asks the service that it comes from, and nothing else. Whatever comes back is shown as text, never as markup.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 10;
const FACTOR = 10; // times k candidates are rescored, or fewer where the service allows no more

// What ranks: as it is chosen, and as it is told of a result.
const RANKINGS = {
  hamming: ["distance of the codes", "distance"],
  overlap: ["overlap of the codes", "overlap"],
  asymmetric: ["outputs of the image", "asymmetric distance"],
  cosine: ["cosine of the vectors", "cosine"],
  inner_product: ["inner product of the vectors", "inner product"],
  l2: ["squared distance of the vectors", "squared distance"],
};

const state = { info: null, key: "", query: null, code: "", asked: 0, points: [], addresses: [] };

// Asking

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(address, options = {}) {
  const headers = { ...(options.headers || {}) };
  if (state.key) headers["X-API-Key"] = state.key;
  let answer;
  try {
    answer = await fetch(address, { ...options, headers });
  } catch {
    throw new Refused(0, "The service does not answer.");
  }
  if (answer.ok) return answer;
  let message = `The service answered with status ${answer.status}.`;
  try {
    message = (await answer.json()).error.message;
  } catch { /* the status has to do */ }
  throw new Refused(answer.status, message);
}

// Strings and numbers of JSON. Ids may have 64 bits, of which a number here holds 53: those of 16 digits and more become
// text, which the service takes as well.
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

async function read(answer) {
  const content = await answer.text();
  return JSON.parse(content.replace(TOKENS, (token) => (/^-?\d{16,}$/.test(token) ? `"${token}"` : token)));
}

function showError(error) {
  const box = $("error");
  box.textContent = error ? error.message : "";
  box.hidden = !error;
  if (error) $("status").textContent = "";
  if (error && error.status === 401) {
    $("key-form").hidden = false;
    $("key").focus();
  }
}

function wanted() {
  const asked = { include: ["label", "code"] };
  const how = $("by-radius").checked ? "radius" : "k";
  asked[how] = Number($(how).value);
  const filter = {};
  if ($("label").value) filter.label = [$("label").value];
  if ($("where").value.trim()) filter.where = $("where").value.trim();
  return { asked, filter };
}

// How the items are ordered: as it was chosen, where the query has what it takes.
function order(query, k) {
  const by = $("by").value;
  if (k === undefined || by === state.info.score) return {};
  if (by === "asymmetric") return query.kind === "image" && !variants(query).length ? { asymmetric: true } : {};
  const kind = { id: "ids", image: "images" }[query.kind];
  if (!state.info.rescore.includes(kind)) return {};
  return { metric: by, rescore: Math.max(1, Math.min(FACTOR, Math.floor(state.info.limits.max_k / k))) };
}

function variants(query) {
  if (query.kind !== "image" || $("variants").hidden) return [];
  return [...document.querySelectorAll("#variants input:checked")].map((box) => box.value);
}

function request(query) {
  const { asked, filter } = wanted();
  const ordered = order(query, asked.k);
  if (query.kind !== "image") {
    const body = { ...asked, ...ordered, filter };
    if (query.kind === "id") body.ids = [query.id];
    else body.codes = [query.code];
    return ["search", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }];
  }
  const form = new FormData();
  form.append("images", query.file, query.file.name || "image");
  for (const detail of asked.include) form.append("include", detail);
  for (const how of ["k", "radius"]) if (how in asked) form.append(how, asked[how]);
  for (const label of filter.label || []) form.append("label", label);
  if (filter.where) form.append("where", filter.where);
  for (const [name, value] of Object.entries(ordered)) form.append(name, value);
  for (const variant of variants(query)) form.append("variants", variant);
  return ["search/images", { method: "POST", body: form }];
}

// Searches for the query as it is set; `remember` makes it an entry of the browser's history, `move` moves the focus.
async function search({ remember = false, move = false } = {}) {
  const query = state.query;
  if (!query) return;
  const number = ++state.asked;
  $("results").classList.add("waiting");
  $("results").setAttribute("aria-busy", "true");
  try {
    const answer = await read(await ask(...request(query)));
    if (number !== state.asked) return; // another one was asked for since
    showError(null);
    show(answer, query);
    if (remember) remembered(query);
    if (move) $("found").focus();
  } catch (error) {
    if (number !== state.asked) return;
    if (query.kind !== "image" || error.status !== 0) $("results").replaceChildren();
    showError(error);
  } finally {
    if (number === state.asked) {
      $("results").classList.remove("waiting");
      $("results").removeAttribute("aria-busy");
    }
  }
}

function searchFor(query, options) {
  state.query = query;
  if (query.kind === "id") $("id").value = query.id;
  return search({ remember: true, ...options });
}

function searchImage(file) {
  if (!state.info || !state.info.images) return showError(new Error("This index accepts no images as queries."));
  if (file.size > state.info.limits.max_upload) {
    const most = (state.info.limits.max_upload / 2 ** 20).toFixed(1);
    return showError(new Error(`An image must have at most ${most} MiB, this one has ${(file.size / 2 ** 20).toFixed(1)}.`));
  }
  return searchFor({ kind: "image", file }, { move: true });
}

// Showing

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function bitsOf(code) {
  const bits = [];
  for (let i = 0; i < state.info.n_bits; i++) {
    bits.push((parseInt(code.slice(2 * (i >> 3), 2 * (i >> 3) + 2), 16) >> (i & 7)) & 1); // the lowest bit first
  }
  return bits;
}

function differing(code, other) {
  const [mine, theirs] = [bitsOf(code), bitsOf(other)];
  return mine.flatMap((bit, i) => (bit === theirs[i] ? [] : [i]));
}

// The bits of a code as cells: dark where they are 1, and underlined where they differ from the query's.
function strip(code, marked) {
  const bits = bitsOf(code);
  const across = Math.min(bits.length, bits.length > 64 ? 32 : 16);
  const down = Math.ceil(bits.length / across);
  const cell = (i, top, height) => `M${i % across} ${Math.floor(i / across) * 1.6 + top}h.85v${height}h-.85z`;
  const path = (chosen, top, height) => chosen.map((i) => cell(i, top, height)).join("");
  const at = (value) => bits.flatMap((bit, i) => (bit === value ? [i] : []));
  const picture = drawn("svg", { class: "bits", viewBox: `0 0 ${across} ${down * 1.6}`, "aria-hidden": "true" });
  picture.append(
    drawn("path", { class: "zeros", d: path(at(0), 0, 0.95) }),
    drawn("path", { class: "ones", d: path(at(1), 0, 0.95) }),
    drawn("path", { class: "marks", d: path(marked, 1.08, 0.34) }),
  );
  return picture;
}

// An <img> of an item. With a key its content is asked for by a request that shows it.
function pictureOf(id) {
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 64));
  image.addEventListener("error", () => image.replaceWith(element("span", "blank")));
  const address = `picture?id=${encodeURIComponent(id)}`;
  if (!state.key) {
    image.src = address;
  } else {
    ask(address).then((answer) => answer.blob()).then((content) => {
      image.src = kept(URL.createObjectURL(content));
    }).catch(() => image.replaceWith(element("span", "blank")));
  }
  return image;
}

function kept(address) {
  state.addresses.push(address);
  return address;
}

function measured(distance, by) {
  if (by === "hamming") return `${distance} ${distance === 1 ? "bit" : "bits"}`;
  return by === "overlap" ? `${distance} shared` : short(distance);
}

function short(distance) {
  return Number.isInteger(distance) ? String(distance) : distance.toPrecision(3);
}

function shownItem(item, query, by) {
  // Of several variants the nearest is compared.
  const [marked] = (query.variants || [query.code]).map((code) => differing(item.code, code))
    .sort((one, other) => one.length - other.length);
  const entry = element("li");
  const button = element("button", "item");
  button.type = "button";
  const bits = marked.length > 12 ? "" : marked.length ? `, differs in bits ${marked.join(", ")}` : ", the same code";
  button.setAttribute("aria-label", `${item.id}, ${item.label === null ? "" : `${item.label}, `}${RANKINGS[by][1]} ${short(item.distance)}${bits}`);
  if (state.info.pictures) button.append(pictureOf(item.id));
  const top = element("span", "top");
  top.append(element("span", "label", item.label === null ? "" : item.label), element("span", "distance", measured(item.distance, by)));
  button.append(top, element("span", "id", item.id), strip(item.code, marked));
  button.addEventListener("click", () => searchFor({ kind: "id", id: item.id }, { move: true }));
  entry.append(button);
  return entry;
}

function show(answer, asked) {
  for (const address of state.addresses.splice(0)) URL.revokeObjectURL(address);
  const query = answer.results[0];
  state.code = query.code;
  showQuery(query, asked);
  $("results").replaceChildren(...query.items.map((item) => shownItem(item, query, answer.ranked_by)));
  const n = query.items.length;
  const what = n === 1 ? "1 item" : `${n} items`;
  const word = RANKINGS[answer.ranked_by][1];
  const last = n ? `, at ${word} ${short(query.items[0].distance)} to ${short(query.items[n - 1].distance)}` : "";
  const first = answer.radius === null ? "" : ` within distance ${answer.radius}`;
  const missing = answer.missing_shards ? ` Not whole: without ${answer.missing_shards.join(", ")}.` : "";
  const found = n ? `${what}${first}${last}${query.truncated ? "; there are more" : ""}` : `No items${first}.`;
  $("status").textContent = found + (missing && n ? "." : "") + missing;
  markMap(query);
}

function nameOf(asked) {
  if (asked.kind === "id") return asked.id;
  return asked.kind === "image" ? asked.file.name || "pasted image" : asked.name;
}

function showQuery(query, asked) {
  const box = $("query");
  box.replaceChildren(element("h3", "", nameOf(asked)));
  if (asked.kind === "image") {
    const image = element("img");
    image.alt = "The image that is searched for";
    image.addEventListener("load", () => image.classList.toggle("pixels", image.naturalWidth < 64));
    image.addEventListener("error", () => image.remove()); // a format that the browser lacks
    image.src = kept(URL.createObjectURL(asked.file));
    box.append(image);
  } else if (asked.kind === "id" && state.info.pictures) {
    box.append(pictureOf(asked.id));
  }
  if (query.predicted !== null) box.append(element("p", "", `predicted: ${query.predicted}`));
  box.append(strip(query.code, []));
  box.hidden = false;
}

// The address bar

function remembered(query) {
  if (query.kind === "image") return;
  const address = `#${new URLSearchParams({ [query.kind]: query.kind === "id" ? query.id : query.code })}`;
  if (address !== location.hash) history.pushState(null, "", address);
}

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("id")) return { kind: "id", id: given.get("id") };
  if (given.has("code")) return { kind: "code", code: given.get("code"), name: "a code" };
  return null;
}

// The map

async function loadMap() {
  let answer;
  try {
    answer = await read(await ask("map"));
  } catch {
    return;
  }
  if (answer.state === "computing") {
    $("map-at").textContent = "The map is being computed …";
    setTimeout(loadMap, 1000);
    return;
  }
  $("map-at").textContent = answer.state === "failed" ? "The map could not be computed." : "";
  if (!answer.points.length) return;
  drawMap(answer);
}

function drawMap(answer) {
  const counts = new Map();
  for (const point of answer.points) counts.set(point.label, (counts.get(point.label) || 0) + point.n_items);
  const labels = [...counts.keys()].filter((label) => label !== null).sort((a, b) => counts.get(b) - counts.get(a));
  const colour = new Map(labels.map((label, i) => [label, i < COLOURS ? `c${i}` : "other"]));
  const most = Math.max(...answer.points.map((point) => point.n_items));
  const map = $("map");
  map.replaceChildren();
  state.points = answer.points.map((point) => {
    const [x, y] = [30 + 940 * point.x, 30 + 580 * point.y];
    const circle = drawn("circle", {
      cx: x, cy: y, r: 4 + 12 * Math.sqrt(point.n_items / most), class: colour.get(point.label) || "other",
      role: "button", tabindex: -1, "aria-label": told(point),
    });
    const found = { ...point, x, y, circle };
    circle.addEventListener("click", () => choose(found));
    circle.addEventListener("focus", () => { $("map-at").textContent = told(point); });
    circle.addEventListener("mouseenter", () => { $("map-at").textContent = told(point); });
    circle.addEventListener("keydown", (event) => walk(event, found));
    return found;
  });
  // Large circles first, so that small ones lie on them.
  map.append(...[...state.points].sort((a, b) => b.n_items - a.n_items).map((point) => point.circle));
  state.points[0].circle.setAttribute("tabindex", 0);
  map.removeAttribute("hidden"); // SVG elements have no such property
  const shown = answer.points.length < answer.n_codes ? `the ${answer.points.length} most frequent of ${answer.n_codes}` : `all ${answer.n_codes}`;
  $("map-text").textContent = `Each circle is a code, ${shown} among ${answer.n_looked_at} items. Near circles are near codes; the size says how many items have it.`;
  const coloured = labels.slice(0, COLOURS).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  $("legend").replaceChildren(...coloured.map((label) => legendOf(label, colour.get(label))));
  if (labels.length > COLOURS) $("legend").append(legendOf("others", "other"));
  if (state.code) markMap({ code: state.code, items: [] });
}

function told(point) {
  const items = point.n_items === 1 ? "1 item" : `${point.n_items} items`;
  return `${items}${point.label === null ? "" : `, ${point.label}`}, such as ${point.id}`;
}

function legendOf(text, className) {
  const entry = element("li");
  const picture = drawn("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" });
  picture.append(drawn("circle", { cx: 5, cy: 5, r: 5, class: className }));
  entry.append(picture, text);
  return entry;
}

function choose(point) {
  stop(point);
  return searchFor({ kind: "code", code: point.code, name: `the code of ${point.id}` });
}

function stop(point) {
  for (const other of state.points) other.circle.setAttribute("tabindex", other === point ? 0 : -1);
}

// The arrows lead to the nearest circle in their direction, within 45 degrees of it.
function walk(event, from) {
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    return choose(from);
  }
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return undefined;
  event.preventDefault();
  let [best, least] = [null, Infinity];
  for (const point of state.points) {
    const [right, below] = [point.x - from.x, point.y - from.y];
    const along = right * way[0] + below * way[1];
    const aside = Math.abs(right * way[1]) + Math.abs(below * way[0]);
    if (along > 0 && aside <= along && along + aside < least) [best, least] = [point, along + aside];
  }
  if (best) {
    stop(best);
    best.circle.focus();
  }
  return undefined;
}

function markMap(query) {
  const near = new Set(query.items.map((item) => item.code));
  for (const point of state.points) {
    point.circle.classList.toggle("here", point.code === query.code);
    point.circle.classList.toggle("near", point.code !== query.code && near.has(point.code));
  }
}

// Beginning

function showInfo(info) {
  state.info = info;
  document.title = `${info.name}: search by hash codes`;
  $("name").textContent = info.name;
  const score = info.score === "hamming" ? "Hamming distance" : "overlap";
  $("facts").textContent = `${info.n_items.toLocaleString("en")} items, codes of ${info.n_bits} bits, exact search by ${score}`;
  $("drop").hidden = !info.images;
  $("k").max = Math.min(100, info.limits.max_k);
  $("radius").max = info.n_bits;
  showOrders(info);
  $("label-field").hidden = !info.class_names.length;
  $("label").replaceChildren(new Option("any", ""), ...info.class_names.map((name) => new Option(name, name)));
  $("where-field").hidden = !Object.keys(info.metadata).length;
  $("columns").textContent = `such as ${Object.keys(info.metadata)[0]} == … ; columns: ${Object.keys(info.metadata).join(", ")}`;
}

function showOrders(info) {
  const orders = [info.score];
  if (info.asymmetric && info.images) orders.push("asymmetric");
  if (info.rescore.length) orders.push("cosine", "inner_product", "l2");
  $("by").replaceChildren(...orders.map((by) => new Option(RANKINGS[by][0], by)));
  $("by-field").hidden = orders.length < 2;
  $("variants").hidden = !info.image_variants.length;
  $("order-field").hidden = $("by-field").hidden && $("variants").hidden;
  tellOrder();
}

function tellOrder() {
  if (!state.info) return;
  const [within, by] = [$("by-radius").checked, $("by").value];
  $("by").disabled = within;
  let text = "";
  if (within) text = "What lies within a distance is ordered by it.";
  else if (by === "asymmetric") text = "Of an image without variants; an item or a code is searched for by its code.";
  else if (by !== state.info.score) text = `Of the ${FACTOR} times so many that are nearest by their codes.`;
  $("by-text").textContent = text;
}

async function random() {
  try {
    const ids = (await read(await ask("random"))).ids;
    if (!ids.length) {
      $("status").textContent = "The index has no items yet.";
      return;
    }
    await searchFor({ kind: "id", id: String(ids[0]) });
  } catch (error) {
    showError(error);
  }
}

async function begin() {
  try {
    showInfo(await read(await ask("info")));
  } catch (error) {
    showError(error);
    return;
  }
  $("key-form").hidden = true;
  loadMap();
  const given = fromAddress();
  if (given) searchFor(given);
  else random();
}

function listen() {
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    state.key = $("key").value.trim();
    showError(null);
    begin();
  });
  $("by-id").addEventListener("submit", (event) => {
    event.preventDefault();
    searchFor({ kind: "id", id: $("id").value });
  });
  $("random").addEventListener("click", random);
  $("file").addEventListener("change", () => {
    if ($("file").files.length) searchImage($("file").files[0]);
  });
  let soon = 0;
  const later = () => {
    tellOrder();
    clearTimeout(soon);
    soon = setTimeout(search, 120);
  };
  for (const name of ["k", "radius"]) {
    $(name).addEventListener("input", () => {
      $(`${name}-value`).textContent = $(name).value;
      $(`by-${name}`).checked = true;
      later();
    });
    $(`by-${name}`).addEventListener("change", later);
  }
  for (const name of ["label", "where", "by", "variants"]) $(name).addEventListener("change", later);
  const drop = $("drop");
  for (const event of ["dragenter", "dragover"]) {
    document.addEventListener(event, (dragged) => {
      dragged.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (dragged) => {
    dragged.preventDefault();
    drop.classList.remove("over");
    if (dragged.dataTransfer.files.length) searchImage(dragged.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (pasted) => {
    const file = [...pasted.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    pasted.preventDefault();
    searchImage(file);
  });
  window.addEventListener("popstate", () => {
    const given = fromAddress();
    if (given) {
      state.query = given;
      if (given.kind === "id") $("id").value = given.id;
      search();
    }
  });
}

listen();
begin();
