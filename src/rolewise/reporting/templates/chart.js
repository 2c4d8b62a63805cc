// Line charts: axes with round ticks, a legend, and the values under the pointer or the arrow keys.

const CHART = { width: 560, height: 300, left: 58, right: 14, top: 12, bottom: 42 };

function roundTicks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) ticks.push(n * step || 0);
  return { ticks, step };
}

function tickLabel(value, step) {
  if (Math.abs(value) >= 1e6 || (value !== 0 && step < 1e-4)) return value.toExponential(1);
  return value.toLocaleString("en", { maximumFractionDigits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) });
}

function extent(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === high) return [low - 0.5, high + 0.5];
  return [low, high];
}

// Runs of points with a y, split at missing values.
function segments(points) {
  const parts = [[]];
  for (const point of points) {
    if (point[1] === null) parts.push([]);
    else parts[parts.length - 1].push(point);
  }
  return parts.filter((part) => part.length);
}

function drawAxes(svg, chart, scaleX, scaleY, xTicks, yTicks) {
  const { width, height, left, right, top, bottom } = CHART;
  const text = (x, y, anchor, content, className = "tick") => {
    const node = svgElement("text", { x, y, "text-anchor": anchor, class: className });
    node.textContent = content;
    svg.append(node);
    return node;
  };
  for (const value of yTicks.ticks) {
    svg.append(svgElement("line", { class: "grid", x1: left, x2: width - right, y1: scaleY(value), y2: scaleY(value) }));
    text(left - 8, scaleY(value) + 4, "end", tickLabel(value, yTicks.step));
  }
  for (const value of xTicks.ticks) text(scaleX(value), height - bottom + 18, "middle", tickLabel(value, xTicks.step));
  svg.append(svgElement("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  text((left + width - right) / 2, height - 4, "middle", chart.x_label, "label");
  const label = text(0, 0, "middle", chart.y_label, "label");
  label.setAttribute("transform", `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`);
}

function drawChart(chart) {
  const { width, height, left, right, top, bottom } = CHART;
  const figure = element("figure", "chart");
  figure.append(element("figcaption", "", chart.title));
  const drawn = chart.series.flatMap((series) => series.points.filter((point) => point[1] !== null));
  if (!drawn.length) {
    figure.append(element("p", "hint", "no values"));
    return figure;
  }
  const [x0, x1] = extent(drawn.map((point) => point[0]));
  const [low, high] = extent(drawn.map((point) => point[1]));
  // A loss axis that starts at zero does not exaggerate; if zero is far away, it would flatten the curves.
  const y0 = low >= 0 && low < high * 0.5 ? 0 : low - (high - low) * 0.05;
  const y1 = high + (high - low) * 0.05;
  const scaleX = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
  const scaleY = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);

  const last = chart.series.map((s) => `${s.name} ends at ${s.points.length ? s.points[s.points.length - 1][1] : "nothing"}`);
  const svg = svgElement("svg", {
    viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": `${chart.title}: ${last.join("; ")}`,
  });
  drawAxes(svg, chart, scaleX, scaleY, roundTicks(x0, x1, 6), roundTicks(y0, y1, 5));
  chart.series.forEach((series, n) => {
    for (const part of segments(series.points)) {
      const path = part.map(([x, y], i) => `${i ? "L" : "M"}${scaleX(x).toFixed(1)} ${scaleY(y).toFixed(1)}`).join("");
      svg.append(svgElement("path", { class: `line c${n % 6}${n >= 6 ? " dashed" : ""}`, d: part.length > 1 ? path : `${path}h0.01` }));
    }
  });
  const cursor = svgElement("g", { class: "cursor", visibility: "hidden" });
  svg.append(cursor);

  const legend = element("ul", "series");
  chart.series.forEach((series, n) => {
    const item = element("li");
    const key = svgElement("svg", { class: "key", viewBox: "0 0 22 8", "aria-hidden": "true" });
    key.append(svgElement("path", { class: `line c${n % 6}${n >= 6 ? " dashed" : ""}`, d: "M1 4H21" }));
    item.append(key, series.name);
    legend.append(item);
  });
  figure.append(svg, legend);
  followPointer(svg, cursor, chart, scaleX, scaleY);
  return figure;
}

function followPointer(svg, cursor, chart, scaleX, scaleY) {
  const { width, height, top, bottom } = CHART;
  const xs = [...new Set(chart.series.flatMap((series) => series.points.map((point) => point[0])))].sort((a, b) => a - b);
  let current = xs.length - 1;
  const show = (position) => {
    current = Math.min(xs.length - 1, Math.max(0, position));
    const x = xs[current];
    cursor.replaceChildren(svgElement("line", { x1: scaleX(x), x2: scaleX(x), y1: top, y2: height - bottom }));
    const rows = [];
    chart.series.forEach((series, n) => {
      const point = series.points.find((candidate) => candidate[0] === x && candidate[1] !== null);
      if (!point) return;
      cursor.append(svgElement("circle", { class: `dot c${n % 6}`, cx: scaleX(x), cy: scaleY(point[1]), r: 3.5 }));
      rows.push([series.name, String(Number(point[1].toPrecision(4)))]);
    });
    cursor.setAttribute("visibility", "visible");
    const box = svg.getBoundingClientRect();
    const at = box.left + (scaleX(x) / width) * box.width + 12;
    showTip(rows, `${chart.x_label} ${Number(x.toPrecision(6)).toLocaleString("en")}`, { left: at, top: box.top, bottom: box.top + 8 });
  };
  const hide = () => {
    cursor.setAttribute("visibility", "hidden");
    hideTip();
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * width;
    let nearest = 0;
    xs.forEach((x, i) => {
      if (Math.abs(scaleX(x) - at) < Math.abs(scaleX(xs[nearest]) - at)) nearest = i;
    });
    show(nearest);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(cursor.getAttribute("visibility") === "hidden" ? current : current + step);
  });
}

const chartsHolder = document.getElementById("charts");
if (chartsHolder) chartsHolder.append(...page.curves.map(drawChart));
