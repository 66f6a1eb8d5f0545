"use strict";
// The page of a run. data.js calls `insetgan.show` with the tables, by columns; folders/<folder>.js
// calls `insetgan.addViews` with what single items add, and is loaded when one of them is opened.
// Scripts are how a page gets its data here, for one that was opened from a disk may not fetch.
// Text becomes text nodes and nothing else, whatever an item is called.

const insetgan = (() => {
  const STAMP = new URL(document.currentScript.src).search; // what a browser kept of an older page is not asked
  const SPARE_ROWS = 6;
  const MOST_BINS = 32;
  const HISTOGRAM = { width: 200, height: 56 };
  const ZOOM = 4;
  const BAND_PX = 8; // of the picture, on each side of the edge
  const ENLARGED_PX = 304;
  const collator = new Intl.Collator(undefined, { numeric: true });
  const views = new Map();
  const folders = new Map();
  const $ = (id) => document.getElementById(id);

  const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const fill = (element, attributes, children) => {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;
  const number = (value) => {
    if (value === null) return "–";
    if (Number.isInteger(value) || Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en");
    return Math.abs(value) < 1e-4 ? value.toExponential(2) : value.toPrecision(3);
  };
  const isNumeric = (column) => (column.numeric ??= column.values.every((value) => typeof value !== "string"));
  const inRun = (key) => `../${key.split("/").map(encodeURIComponent).join("/")}`;
  const folderName = (folder) => folder.toString(16).padStart(2, "0");

  // A table of which only the rows in sight exist. Rows have one height, so places are known.
  class Table {
    constructor(region, data, { rowHeight, href, head, title }) {
      Object.assign(this, { region, data, rowHeight, href, head });
      this.all = [{ group: "", title, values: data.item_ids }, ...data.columns];
      this.sort = { column: 0, ascending: true };
      this.filter = () => () => true; // what an item must pass now
      this.rows = new Map(); // place in the order → its row
      this.current = 0; // the one row that the Tab key stops at
      this.before = make("tr", { "aria-hidden": "true", class: "spacer" });
      this.after = make("tr", { "aria-hidden": "true", class: "spacer" });
      this.body = make("tbody", {}, this.before, this.after);
      this.table = make("table", { class: "data", "aria-labelledby": region.getAttribute("aria-labelledby") });
      this.table.append(this.makeHead(), this.body);
      this.table.style.setProperty("--row", `${rowHeight}px`);
      region.style.setProperty("--all", `${(data.item_ids.length + 2) * rowHeight}px`);
      region.append(this.table);
      region.addEventListener("scroll", () => this.paint(), { passive: true });
      new ResizeObserver(() => this.paint()).observe(region);
      this.body.addEventListener("keydown", (event) => this.steer(event));
    }

    makeHead() {
      const groups = make("tr");
      for (const { group } of this.all) {
        const last = groups.lastChild;
        if (last && last.textContent === group) last.colSpan += 1;
        else groups.append(make("th", { scope: "colgroup", class: "group" }, group));
      }
      this.heads = this.all.map((column, index) => {
        const button = make("button", { type: "button" }, column.title);
        button.addEventListener("click", () => this.sortBy(index));
        return make("th", { scope: "col", class: this.kind(column) }, button);
      });
      const lines = this.all.some((column) => column.group) ? [groups] : [];
      this.headRows = lines.length + 1;
      return make("thead", {}, ...lines, make("tr", {}, ...this.heads));
    }

    kind(column) {
      return isNumeric(column) ? "n" : column.title === "detail" ? "t long" : "t";
    }

    sortBy(column) {
      const ascending = this.sort.column === column ? !this.sort.ascending : true;
      this.sort = { column, ascending };
      this.update();
    }

    // The rows that pass, in their order; what has no number comes last either way.
    update() {
      const { column, ascending } = this.sort;
      const { values } = this.all[column];
      const sign = ascending ? 1 : -1;
      const compare = (a, b) => {
        const [x, y] = [values[a], values[b]];
        if (x === null || y === null) return (x === null) - (y === null) || a - b;
        return sign * (typeof x === "string" ? collator.compare(x, y) : x - y) || a - b;
      };
      this.order = [...this.data.item_ids.keys()].filter(this.filter()).sort(compare);
      this.heads.forEach((head, index) => {
        if (index !== column) head.removeAttribute("aria-sort");
        else head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      });
      this.table.setAttribute("aria-rowcount", this.order.length + this.headRows);
      for (const row of this.rows.values()) row.remove();
      this.rows.clear();
      this.current = 0;
      this.region.scrollTop = 0;
      this.paint();
      this.onchange?.();
    }

    paint() {
      const { scrollTop, clientHeight } = this.region;
      const first = Math.max(0, Math.floor(scrollTop / this.rowHeight) - SPARE_ROWS);
      const inSight = Math.ceil(clientHeight / this.rowHeight) + 2 * SPARE_ROWS;
      const end = Math.min(this.order.length, first + inSight);
      const focused = this.body.contains(document.activeElement);
      if (!focused && (this.current < first || this.current >= end)) {
        this.current = Math.min(first + SPARE_ROWS, Math.max(0, end - 1));
      }
      for (const [place, row] of this.rows) {
        if ((place < first || place >= end) && !row.contains(document.activeElement)) {
          row.remove();
          this.rows.delete(place);
        }
      }
      for (let place = first; place < end; place++) {
        if (!this.rows.has(place)) this.rows.set(place, this.makeRow(place));
      }
      const sorted = [...this.rows.keys()].sort((a, b) => a - b);
      let previous = this.before;
      for (const place of sorted) {
        const row = this.rows.get(place);
        if (previous.nextSibling !== row) previous.after(row);
        row.link.tabIndex = place === this.current ? 0 : -1;
        previous = row;
      }
      // A focused row that was scrolled away stays, and takes its height from the spacer.
      const kept = sorted.filter((place) => place < first).length;
      const later = sorted.filter((place) => place >= end).length;
      this.before.style.height = `${(first - kept) * this.rowHeight}px`;
      this.after.style.height = `${(this.order.length - end - later) * this.rowHeight}px`;
    }

    makeRow(place) {
      const index = this.order[place];
      const link = make("a", { href: this.href + this.data.item_ids[index] }, ...this.head(index));
      const cells = this.data.columns.map((column) => {
        const value = column.values[index];
        const text = typeof value === "string" ? value : number(value);
        return make("td", { class: this.kind(column) }, text);
      });
      const row = make("tr", { "aria-rowindex": place + this.headRows + 1 });
      row.append(make("th", { scope: "row" }, link), ...cells);
      row.link = link;
      return row;
    }

    steer(event) {
      const page = Math.max(1, Math.floor(this.region.clientHeight / this.rowHeight) - 2);
      const end = this.order.length;
      const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -end, End: end };
      if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.focus(Math.min(Math.max(this.current + steps[event.key], 0), end - 1));
    }

    focus(place) {
      if (place < 0 || place >= this.order.length) return;
      const head = this.table.tHead.offsetHeight;
      const top = place * this.rowHeight;
      const { scrollTop, clientHeight } = this.region;
      if (top < scrollTop) this.region.scrollTop = top;
      if (top + this.rowHeight + head > scrollTop + clientHeight) {
        this.region.scrollTop = top + this.rowHeight + head - clientHeight;
      }
      this.current = place;
      document.activeElement?.blur();
      this.paint();
      this.rows.get(place).link.focus({ preventScroll: true });
    }
  }

  // The distribution of a column. A drag over it, or its two numbers, choose a range.
  class Histogram {
    constructor(column, onchange) {
      Object.assign(this, { column, onchange, low: null, high: null });
      const known = column.values.filter((value) => value !== null);
      this.from = known.reduce((a, b) => Math.min(a, b));
      this.to = known.reduce((a, b) => Math.max(a, b));
      this.isLog = this.from > 0 && this.to > 50 * this.from;
      const whole = known.every(Number.isInteger) ? this.to - this.from + 1 : MOST_BINS;
      this.bins = Math.min(MOST_BINS, whole, Math.ceil(2 * Math.sqrt(known.length)));
      this.binOf = column.values.map((value) => (value === null ? -1 : this.bin(value)));
      this.total = this.count(() => true);
      this.figure = this.makeFigure();
    }

    share(value) {
      if (this.from === this.to) return 0.5;
      if (this.isLog) return Math.log(value / this.from) / Math.log(this.to / this.from);
      return (value - this.from) / (this.to - this.from);
    }

    value(share) {
      if (this.isLog) return this.from * (this.to / this.from) ** share;
      return this.from + share * (this.to - this.from);
    }

    bin(value) {
      return Math.min(this.bins - 1, Math.floor(this.share(value) * this.bins));
    }

    count(passes) {
      const counts = new Array(this.bins).fill(0);
      this.binOf.forEach((bin, index) => { if (bin >= 0 && passes(index)) counts[bin] += 1; });
      return counts;
    }

    get isChosen() {
      return this.low !== null || this.high !== null;
    }

    passes(index) {
      const value = this.column.values[index];
      return value !== null && (this.low === null || value >= this.low) && (this.high === null || value <= this.high);
    }

    makeFigure() {
      const { width, height } = HISTOGRAM;
      const name = [this.column.group, this.column.title].filter(Boolean).join(" ");
      this.bars = svg("path", { class: "passing" });
      this.brush = svg("rect", { class: "brush", y: 0, height, width: 0 });
      this.drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
      this.drawing.append(svg("path", { class: "total", d: this.path(this.total) }), this.bars, this.brush);
      this.inputs = [["at least", this.from], ["at most", this.to]].map(([word, end]) => {
        const input = make("input", { type: "number", step: "any", "aria-label": `${name}: ${word}`, placeholder: number(end) });
        input.addEventListener("change", () => this.choose(...this.inputs.map(({ value }) => (value === "" ? null : Number(value)))));
        return input;
      });
      this.drawing.addEventListener("pointerdown", (event) => this.drag(event));
      const caption = make("figcaption", { title: name }, make("b", {}, name), this.isLog ? " log scale" : "");
      const range = make("div", { class: "range" }, this.inputs[0], make("span", { "aria-hidden": "true" }, "–"), this.inputs[1]);
      return make("figure", { class: "histogram", role: "group", "aria-label": `${name}: distribution and range` }, caption, this.drawing, range);
    }

    path(counts) {
      const highest = Math.max(...this.total, 1);
      const wide = HISTOGRAM.width / this.bins;
      return counts.map((count, bin) => {
        if (!count) return "";
        const tall = Math.max(1, (count / highest) * HISTOGRAM.height);
        return `M${(bin * wide).toFixed(1)} ${HISTOGRAM.height}v${-tall.toFixed(1)}h${(wide * 0.9).toFixed(1)}V${HISTOGRAM.height}z`;
      }).join("");
    }

    // A range that reaches an end of the drawing is open there, so that rounding loses no item.
    drag(down) {
      const { left, width } = this.drawing.getBoundingClientRect();
      const shareAt = (event) => Math.min(1, Math.max(0, (event.clientX - left) / width));
      const start = shareAt(down);
      const extend = (event) => {
        const [a, b] = [start, shareAt(event)].sort((x, y) => x - y);
        if ((b - a) * width < 3) this.choose(null, null);
        else this.choose(...[a, b].map((share) => (share === 0 || share === 1 ? null : Number(this.value(share).toPrecision(3)))));
      };
      down.preventDefault();
      this.drawing.setPointerCapture(down.pointerId);
      this.drawing.addEventListener("pointermove", extend);
      const stop = (event) => {
        if (event.type === "pointerup") extend(event);
        this.drawing.removeEventListener("pointermove", extend);
      };
      for (const end of ["pointerup", "pointercancel"]) this.drawing.addEventListener(end, stop, { once: true });
    }

    choose(low, high) {
      if (low === this.low && high === this.high) return;
      Object.assign(this, { low, high });
      const ends = [low ?? this.from, high ?? this.to].map((value) => Math.min(1, Math.max(0, this.share(Math.max(value, this.isLog ? this.from : value)))));
      this.brush.setAttribute("x", ends[0] * HISTOGRAM.width);
      this.brush.setAttribute("width", this.isChosen ? Math.max(0, ends[1] - ends[0]) * HISTOGRAM.width : 0);
      this.inputs[0].value = low ?? "";
      this.inputs[1].value = high ?? "";
      this.figure.classList.toggle("chosen", this.isChosen);
      this.onchange();
    }

    show(passes) {
      this.bars.setAttribute("d", this.path(this.count(passes)));
    }
  }

  const matcher = (data, input) => {
    const columns = [data.item_ids, data.titles, ...data.columns.filter((c) => !isNumeric(c)).map((c) => c.values)];
    let texts = null; // made when somebody searches: the first rows need not wait for them
    return () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (!words.length) return () => true;
      texts ??= data.item_ids.map((_, index) => columns.map((values) => values[index]).join(" ").toLowerCase());
      return (index) => words.every((word) => texts[index].includes(word));
    };
  };

  // Typing and dragging ask for many updates; a screen shows one per frame.
  const calmly = (update) => {
    let asked = 0;
    return () => { asked ||= requestAnimationFrame(() => { asked = 0; update(); }); };
  };

  const showItems = ({ items, thumbnail }) => {
    const table = new Table($("items-region"), items, {
      title: "item", rowHeight: 56, href: "#item-",
      head: (index) => {
        const scale = 48 / thumbnail.height;
        const shown = make("span", { class: "thumbnail", "aria-hidden": "true" });
        shown.style.width = `${thumbnail.width * scale}px`;
        shown.style.backgroundImage = `url("folders/${folderName(items.folders[index])}.jpg${STAMP}")`;
        shown.style.backgroundSize = `${thumbnail.width * scale}px auto`;
        shown.style.backgroundPosition = `0 ${-items.places[index] * 48}px`;
        return [shown, make("span", { class: "name" }, items.item_ids[index], make("span", { class: "quiet" }, items.titles[index]))];
      },
    });
    const update = calmly(() => table.update());
    const search = $("items-search");
    const matches = matcher(items, search);
    const numeric = items.columns.filter(isNumeric);
    const histograms = numeric.map((column) => new Histogram(column, update));
    table.filter = () => {
      const [chosen, matching] = [histograms.filter((histogram) => histogram.isChosen), matches()];
      return (index) => chosen.every((histogram) => histogram.passes(index)) && matching(index);
    };
    table.onchange = () => {
      const passing = new Uint8Array(items.item_ids.length);
      for (const index of table.order) passing[index] = 1;
      histograms.forEach((histogram) => histogram.show((index) => passing[index]));
      const { column, ascending } = table.sort;
      const { group, title } = table.all[column];
      const sorted = `${[group, title].filter(Boolean).join(" ")}, ${ascending ? "ascending" : "descending"}`;
      $("items-status").textContent = `${table.order.length.toLocaleString("en")} of ${plural(items.item_ids.length, "item")}, by ${sorted}`;
    };
    search.addEventListener("input", update);
    $("items-clear").addEventListener("click", () => {
      search.value = "";
      histograms.forEach((histogram) => histogram.choose(null, null));
      update();
    });
    $("histograms").append(...histograms.map((histogram) => histogram.figure));
    $("histograms").parentElement.open = matchMedia("(min-width: 40rem)").matches;
    table.update();
    return table;
  };

  const showFailures = (failures) => {
    const table = new Table($("failures-region"), failures, {
      title: "item", rowHeight: 40, href: "#failed-",
      head: (index) => [make("span", { class: "name" }, failures.item_ids[index])],
    });
    const reasons = failures.columns.find((column) => column.title === "reason").values;
    const counts = new Map();
    for (const reason of reasons) counts.set(reason, (counts.get(reason) ?? 0) + 1);
    const select = $("failures-reason");
    for (const [reason, count] of [...counts].sort((a, b) => b[1] - a[1])) {
      select.append(make("option", { value: reason }, `${reason} (${count.toLocaleString("en")})`));
    }
    const search = $("failures-search");
    const matches = matcher(failures, search);
    table.filter = () => {
      const [reason, matching] = [select.value, matches()];
      return (index) => (!reason || reasons[index] === reason) && matching(index);
    };
    table.onchange = () => {
      $("failures-status").textContent = `${table.order.length.toLocaleString("en")} of ${plural(failures.item_ids.length, "failed item")}`;
    };
    const update = calmly(() => table.update());
    for (const input of [search, select]) input.addEventListener("input", update);
    table.update();
    return table;
  };

  // ---- the view of one item

  const loadFolder = (folder) => {
    if (!folders.has(folder)) {
      folders.set(folder, new Promise((resolve, reject) => {
        const script = make("script", { src: `folders/${folder}.js${STAMP}` });
        script.addEventListener("load", resolve);
        script.addEventListener("error", () => {
          folders.delete(folder); // the next click tries again
          reject(new Error(`report/folders/${folder}.js could not be loaded: it must lie beside the page`));
        });
        document.head.append(script);
      }));
    }
    return folders.get(folder);
  };

  const picture = (key, title, caption, ...over) => {
    const image = make("img", { src: inRun(key), alt: `${title}: ${caption}`, loading: "lazy" });
    return make("figure", {}, make("div", { class: "framed" }, image, ...over), make("figcaption", {}, caption));
  };

  const factList = (facts) => {
    const list = make("dl", { class: "facts" });
    for (const [name, value] of facts) list.append(make("dt", {}, name), make("dd", {}, value));
    return list;
  };

  const corners = ([x0, y0, x1, y1, angle = 0]) => {
    const [cx, cy] = [(x0 + x1) / 2, (y0 + y1) / 2];
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]].map(([x, y]) => [
      cx + (x - cx) * Math.cos(angle) - (y - cy) * Math.sin(angle),
      cy + (x - cx) * Math.sin(angle) + (y - cy) * Math.cos(angle),
    ]);
  };

  const centre = (box) => [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];

  // Where regions are on the result: solid, and dashed where they were before.
  const regionPath = (regions) => {
    const drawing = svg("svg", { class: "boxes", "aria-hidden": "true" });
    for (const { before, after } of Object.values(regions)) {
      const [bx, by] = centre(after);
      if (before) {
        const [ax, ay] = centre(before);
        drawing.append(
          svg("path", { class: "from", d: `M${corners(before).join("L")}z` }),
          svg("path", { class: "way", d: `M${ax} ${ay}L${bx} ${by}` }));
      }
      drawing.append(svg("path", { class: "to", d: `M${corners(after).join("L")}z` }), svg("circle", { cx: bx, cy: by, r: 2 }));
    }
    return drawing;
  };

  const loaded = async (key) => {
    const image = new Image();
    image.src = inRun(key);
    await image.decode();
    return image;
  };

  const bitmap = (width, height, label) => {
    const element = make("canvas", { role: "img", "aria-label": label });
    element.width = Math.max(1, Math.round(width));
    element.height = Math.max(1, Math.round(height));
    const context = element.getContext("2d");
    context.imageSmoothingEnabled = false;
    return { element, context };
  };

  // The edge from `a` to `b` laid flat: outside of the region above, inside below.
  const strip = (image, [a, b], label) => {
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
    const { element, context } = bitmap(Math.hypot(dx, dy) * ZOOM, 2 * BAND_PX * ZOOM, label);
    context.scale(ZOOM, ZOOM);
    context.translate(0, BAND_PX);
    context.rotate(-Math.atan2(dy, dx));
    context.translate(-a[0], -a[1]);
    context.drawImage(image, 0, 0);
    return element;
  };

  const enlarged = (image, [x0, y0, x1, y1], label) => {
    const zoom = Math.min(ZOOM, ENLARGED_PX / (x1 - x0));
    const { element, context } = bitmap((x1 - x0) * zoom, (y1 - y0) * zoom, label);
    context.imageSmoothingEnabled = zoom < 1;
    context.scale(zoom, zoom);
    context.drawImage(image, -x0, -y0);
    return element;
  };

  const around = (boxes, image) => {
    const points = boxes.flatMap(corners);
    const margin = image.naturalHeight * 0.05;
    const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
    return [
      Math.max(0, Math.floor(Math.min(...xs) - margin)), Math.max(0, Math.floor(Math.min(...ys) - margin)),
      Math.min(image.naturalWidth, Math.ceil(Math.max(...xs) + margin)), Math.min(image.naturalHeight, Math.ceil(Math.max(...ys) + margin)),
    ];
  };

  // Every region enlarged and its edges, in what results are compared to and in the result.
  const closeUps = async ({ files, regions }, compared) => {
    const pictures = [compared, ["image", "result"]].filter((shown) => shown && files[shown[0]]);
    const images = await Promise.all(pictures.map(([file]) => loaded(files[file])));
    const captions = pictures.map(([, caption]) => caption);
    const boxOf = ({ before, after }, n) => (pictures[n][0] === "image" ? after : before ?? after);
    return Object.entries(regions).flatMap(([name, region]) => {
      const boxes = images.map((_, n) => boxOf(region, n));
      const frame = around(boxes, images.at(-1));
      const large = images.map((image, n) =>
        make("figure", {}, enlarged(image, frame, `The ${name} enlarged, ${captions[n]}`), make("figcaption", {}, captions[n])));
      const sides = ["upper", "right", "lower", "left"].map((side, n) =>
        make("figure", {}, make("figcaption", {}, `${side} edge`),
          make("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": `${side} edge of the ${name}` },
            ...images.map((image, k) => {
              const points = corners(boxes[k]);
              return strip(image, [points[n], points[(n + 1) % 4]], `The ${side} edge of the ${name}, ${captions[k]}`);
            }))));
      return [
        make("section", {}, make("h3", {}, `${name}, enlarged`), make("div", { class: "twin" }, ...large)),
        make("section", {}, make("h3", {}, `edges of the ${name}, ${ZOOM}×`),
          make("p", { class: "quiet" }, `Each edge laid flat, outside above and inside below its middle: ${captions.join(", then ")}.`),
          make("div", { class: "sides" }, ...sides)),
      ];
    });
  };

  const chart = ({ title, meaning, is_log, lines, x_ticks, y_ticks, shaded, kept_at }, frame) => {
    const { width, height, left, right, top, bottom } = frame;
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} losses over the steps` });
    for (const [start, end] of shaded) drawing.append(svg("rect", { x: start, y: top, width: end - start, height: bottom - top }));
    for (const { at, label } of y_ticks) {
      drawing.append(svg("path", { class: "rule", d: `M${left} ${at}H${right}` }),
        svg("text", { x: left - 10, y: at + 7, "text-anchor": "end" }, label));
    }
    for (const { at, label } of x_ticks) drawing.append(svg("text", { x: at, y: bottom + 26, "text-anchor": "middle" }, label));
    drawing.append(svg("text", { x: (left + right) / 2, y: height - 6, "text-anchor": "middle" }, "step"));
    drawing.append(svg("path", { class: "axis", d: `M${left} ${bottom}H${right}` }));
    if (kept_at !== null) drawing.append(svg("path", { class: "kept", d: `M${kept_at} ${top}V${bottom}` }));
    const legend = make("p", { class: "legend" });
    for (const { label, style, pieces } of lines) {
      const kind = `line c${style % 4}`;
      drawing.append(svg("path", { class: kind, d: pieces.map((points) => `M${points.join(" ")}`).join("") }));
      const key = svg("svg", { viewBox: "0 0 44 16", "aria-hidden": "true" }, svg("path", { class: kind, d: "M0 8H44" }));
      legend.append(make("span", {}, key, label));
    }
    legend.append(make("span", {}, is_log ? "log scale" : "linear scale"));
    return make("figure", { class: "chart" }, make("figcaption", {}, make("b", {}, title), meaning), drawing, legend);
  };

  const regionSwitch = (path) => {
    const toggle = make("input", { type: "checkbox" });
    toggle.addEventListener("change", () => { path.classList.toggle("shown", toggle.checked); });
    return make("label", { class: "switch" }, toggle, "box path, from dashed to solid");
  };

  const showView = (panel, view, { frame, compared, shaded_phase }) => {
    const { files, regions } = view;
    const path = regionPath(regions);
    const row = make("div", { class: "row" });
    for (const [title, captions] of Object.entries(view.pictures)) {
      const figures = Object.entries(captions).map(([file, caption]) =>
        picture(files[file], title, caption, ...(file === "image" ? [path] : [])));
      const block = make("section", {}, make("h3", {}, title), make("div", { class: "twin" }, ...figures));
      if ("image" in captions && Object.keys(regions).length) block.append(regionSwitch(path));
      row.append(block);
    }
    const image = path.previousSibling; // the result
    image.loading = "eager";
    image.addEventListener("load", () => path.setAttribute("viewBox", `0 0 ${image.naturalWidth} ${image.naturalHeight}`));
    const closeUpRow = make("div", { class: "row" });
    const more = make("div", { class: "charts" }, ...view.charts.map((each) => chart(each, frame)));
    const links = make("ul", { class: "files" }, ...Object.entries(files).map(([name, key]) =>
      make("li", {}, make("a", { href: inRun(key), target: "_blank", rel: "noopener" }, key.split("/").at(-1), make("span", { class: "quiet" }, ` ${name.replaceAll("_", " ")}`)))));
    panel.append(row, closeUpRow);
    if (view.charts.length) {
      panel.append(make("h3", {}, "raw losses"),
        make("p", { class: "quiet" }, shaded_phase && `Shaded: steps of the phase ${shaded_phase}. `, "The dotted line ends the round that was kept."), more);
    }
    if (files.film) {
      const film = make("img", { src: inRun(files.film), loading: "lazy", alt: "The result as it came about, step by step" });
      panel.append(make("details", {}, make("summary", {}, "film"), make("div", { class: "panel" }, film)));
    }
    panel.append(make("div", { class: "row" },
      make("section", {}, make("h3", {}, "facts"), factList(view.facts)), make("section", {}, make("h3", {}, "files of the item"), links)));
    if (Object.keys(regions).length) {
      closeUps(view, compared).then((found) => closeUpRow.append(...found), () =>
        closeUpRow.append(make("p", { class: "failed" }, "The pictures of this item cannot be loaded: is the run still beside the page?")));
    }
  };

  const showFailure = (panel, failures, index) => {
    const facts = failures.columns.filter(({ title }) => title !== "detail").map(({ title, values }) => [title, String(values[index])]);
    const detail = failures.columns.find(({ title }) => title === "detail").values[index];
    panel.append(factList([["made of", failures.titles[index] || "unknown"], ...facts]));
    panel.append(make("h3", {}, "trace"), make("pre", { tabindex: 0 }, detail || "nothing was recorded"));
  };

  // ---- the dialog, and the part of the address that opens it

  const start = ({ items, failures, thumbnail, ...shared }) => {
    const dialog = $("view");
    const tables = [];
    const places = (data) => new Map(data.item_ids.map((id, index) => [id, index]));
    if (items.item_ids.length) tables.push(["#item-", showItems({ items, thumbnail }), places(items)]);
    if (failures.item_ids.length) tables.push(["#failed-", showFailures(failures), places(failures)]);
    let opened = null;
    let hasMoved = false;

    const open = async (table, index) => {
      const panel = make("div", { class: "panel" });
      const place = table.order.indexOf(index);
      opened = { table, index, place };
      $("view-title").textContent = table.data.item_ids[index];
      $("view-place").textContent = place < 0 ? "" : `${(place + 1).toLocaleString("en")} of ${table.order.length.toLocaleString("en")}`;
      $("view-made").textContent = table.data.titles[index];
      $("view-previous").disabled = place <= 0;
      $("view-next").disabled = place < 0 || place + 1 >= table.order.length;
      $("view-panel").replaceChildren(panel);
      if (!dialog.open) dialog.showModal();
      $("view-panel").scrollTop = 0;
      if (table.data === failures) return showFailure(panel, failures, index);
      const item = items.item_ids[index];
      try {
        await loadFolder(folderName(items.folders[index]));
        showView(panel, views.get(item), shared);
      } catch (error) {
        panel.append(make("p", { class: "failed" }, error.message));
      }
    };

    const openAddress = () => {
      const address = decodeURIComponent(location.hash);
      for (const [prefix, table, places] of tables) {
        const index = address.startsWith(prefix) ? places.get(address.slice(prefix.length)) : undefined;
        if (index !== undefined) return void open(table, index);
      }
      if (dialog.open) dialog.close();
    };

    const move = (by) => {
      const index = opened.table.order[opened.place + by];
      if (index === undefined) return;
      hasMoved = true;
      location.replace(opened.table.href + opened.table.data.item_ids[index]);
    };

    $("view-previous").addEventListener("click", () => move(-1));
    $("view-next").addEventListener("click", () => move(1));
    $("view-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by && event.target.getAttribute("tabindex") === null) move(by);
    });
    dialog.addEventListener("close", () => {
      history.replaceState(null, "", location.href.split("#")[0]);
      if (hasMoved) opened.table.focus(opened.place); // else the browser knows where focus was
      hasMoved = false;
    });
    addEventListener("hashchange", openAddress);
    openAddress();
  };

  return {
    show: start,
    addViews: (found) => { for (const [id, view] of found) views.set(id, view); },
  };
})();
