"use strict";
// A renderer of triangle meshes in plain JavaScript: find the nearest face of each pixel by depth, interpolate values
// per pixel, and look up colors last. It does not use WebGL, so that it runs in any browser.

const scene = JSON.parse(document.getElementById("scene").textContent);
const element = (id) => document.getElementById(id);
const decode = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

const hemispheres = {};
for (const [side, data] of Object.entries(scene.hemispheres)) {
  const faces = decode(data.faces, data.count > 65535 ? Uint32Array : Uint16Array);
  const rois = data.rois.map((roi) => ({
    member: new Set(decode(roi.vertices, Uint32Array)),
    border: roi.border.map((chain) => decode(chain, Uint32Array)),
    flatBorder: roi.flat_border.map((chain) => decode(chain, Uint32Array)),
  }));
  hemispheres[side] = {
    count: data.count, faces, rois, surfaces: {},
    sulcal: decode(data.sulcal, Int8Array), nearest: decode(data.nearest, Int32Array),
    distance: decode(data.distance, Float32Array),
    values: scene.maps.map((map) => {
      const full = new Float32Array(data.count).fill(NaN);
      const values = decode(map.values[side].values, Float32Array);
      decode(map.values[side].vertices, Uint32Array).forEach((vertex, index) => { full[vertex] = values[index]; });
      return full;
    }),
  };
}

// Both hemispheres are drawn side by side, whatever surface is shown.
function surfaceOf(side, name) {
  const hemisphere = hemispheres[side];
  if (hemisphere.surfaces[name]) return hemisphere.surfaces[name];
  const data = scene.hemispheres[side].surfaces[name];
  const points = Float32Array.from(decode(data.coordinates, Int16Array), (value) => value * data.step);
  let faces = hemisphere.faces;
  if (data.faces !== null) {
    const bits = decode(data.faces, Uint8Array);
    const kept = [];
    for (let face = 0; face < faces.length / 3; face++) {
      if (bits[face >> 3] & (1 << (face & 7))) kept.push(faces[3 * face], faces[3 * face + 1], faces[3 * face + 2]);
    }
    faces = Uint32Array.from(kept);
  }
  let low = Infinity, high = -Infinity;
  for (const vertex of faces) { low = Math.min(low, points[3 * vertex]); high = Math.max(high, points[3 * vertex]); }
  const gap = name === "flat" ? 6 : 1;
  const shift = side === "left" ? -high - gap : -low + gap;
  for (let vertex = 0; vertex < hemisphere.count; vertex++) points[3 * vertex] += shift;
  const surface = { points, faces, normals: normalsOf(points, faces), borders: null, middle: shift + (low + high) / 2 };
  surface.borders = hemisphere.rois.map((roi) =>
    (name === "flat" ? roi.flatBorder : roi.border).map((chain) => borderOf(chain, points)));
  hemisphere.surfaces[name] = surface;
  return surface;
}

function normalsOf(points, faces) {
  const normals = new Float32Array(points.length);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = points[b] - points[a], uy = points[b + 1] - points[a + 1], uz = points[b + 2] - points[a + 2];
    const vx = points[c] - points[a], vy = points[c + 1] - points[a + 1], vz = points[c + 2] - points[a + 2];
    const nx = uy * vz - uz * vy, ny = uz * vx - ux * vz, nz = ux * vy - uy * vx;
    for (const v of [a, b, c]) { normals[v] += nx; normals[v + 1] += ny; normals[v + 2] += nz; }
  }
  for (let v = 0; v < normals.length; v += 3) {
    const length = Math.hypot(normals[v], normals[v + 1], normals[v + 2]) || 1;
    normals[v] /= length; normals[v + 1] /= length; normals[v + 2] /= length;
  }
  return normals;
}

function borderOf(chain, points) {
  let line = [];
  for (let i = 0; i < chain.length; i += 2) {
    line.push([0, 1, 2].map((k) => (points[3 * chain[i] + k] + points[3 * chain[i + 1] + k]) / 2));
  }
  const last = chain.length - 2;
  const closed = chain[0] === chain[last] && chain[1] === chain[last + 1];
  for (let round = 0; round < 3; round++) {
    line = line.map((point, i) => {
      const before = line[i > 0 ? i - 1 : closed ? line.length - 2 : 0];
      const after = line[i < line.length - 1 ? i + 1 : closed ? 1 : i];
      return point.map((value, k) => 0.5 * value + 0.25 * (before[k] + after[k]));
    });
  }
  return line;
}

// ---------------------------------------------------------------- what is shown

const VIEWS = {
  posterior: [[0, -1, 0], [0, 0, 1]], lateral: [[-1, 0, 0], [0, 0, 1]], medial: [[1, 0, 0], [0, 0, 1]],
  ventral: [[0, 0, -1], [0, 1, 0]], dorsal: [[0, 0, 1], [0, 1, 0]],
};
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const state = { map: 0, surface: "inflated", hemisphere: "both", low: 0, high: 1, threshold: 0, outlines: true };
const camera = { axes: null, zoom: 1, x: 0, y: 0 };

function look(name) {
  const [toward, up] = VIEWS[name].map((axis) => axis.slice());
  if (state.hemisphere === "right" && (name === "lateral" || name === "medial")) toward[0] = -toward[0];
  camera.axes = [cross(up, toward), up, toward];
  camera.zoom = 1; camera.x = 0; camera.y = 0;
  if (name === "posterior" && state.surface !== "flat") turn(0, 0.12);
  draw();
}

function turn(horizontal, vertical) {
  const [right, up, toward] = camera.axes;
  const spin = (a, b, angle) => [
    a.map((value, k) => value * Math.cos(angle) + b[k] * Math.sin(angle)),
    b.map((value, k) => value * Math.cos(angle) - a[k] * Math.sin(angle)),
  ];
  const [right2, toward2] = spin(right, toward, -horizontal);
  const [up2, toward3] = spin(up, toward2, vertical);
  camera.axes = [right2, up2, toward3];
}

function sides() { return state.hemisphere === "both" ? ["left", "right"] : [state.hemisphere]; }

// ---------------------------------------------------------------- drawing

const canvas = element("brain");
const context = canvas.getContext("2d");
const layer = document.createElement("canvas");
let frame = null;

function project(side, width, height, scale) {
  const { points } = surfaceOf(side, state.surface);
  const axes = state.surface === "flat" ? [[1, 0, 0], [0, 1, 0], [0, 0, 1]] : camera.axes;
  const middle = state.hemisphere === "both" ? 0 : surfaceOf(side, state.surface).middle;
  const [r, u, t] = axes;
  const out = new Float32Array(points.length);
  for (let v = 0; v < points.length; v += 3) {
    const x = points[v] - middle, y = points[v + 1], z = points[v + 2];
    out[v] = width / 2 + scale * (r[0] * x + r[1] * y + r[2] * z + camera.x);
    out[v + 1] = height / 2 - scale * (u[0] * x + u[1] * y + u[2] * z + camera.y);
    out[v + 2] = t[0] * x + t[1] * y + t[2] * z;
  }
  return out;
}

function extentOf() {
  // The scale fits the scene as seen straight from the front or from the side, whichever is larger.
  let half = 1, tall = 1;
  for (const side of sides()) {
    const { points, faces, middle } = surfaceOf(side, state.surface);
    const shift = state.hemisphere === "both" ? 0 : middle;
    for (let f = 0; f < faces.length; f += 3) {
      const v = 3 * faces[f];
      if (state.surface === "flat") {
        half = Math.max(half, Math.abs(points[v] - shift)); tall = Math.max(tall, Math.abs(points[v + 1]));
      } else {
        half = Math.max(half, Math.abs(points[v] - shift), Math.abs(points[v + 1]));
        tall = Math.max(tall, Math.abs(points[v + 2]), 0.78 * Math.abs(points[v + 1]));
      }
    }
  }
  return [half, tall];
}

function rasterize(width, height, scale) {
  const size = width * height;
  const depth = new Float32Array(size).fill(-1e9), face = new Int32Array(size).fill(-1);
  const second = new Float32Array(size), third = new Float32Array(size), which = new Uint8Array(size);
  sides().forEach((side, number) => {
    const { faces } = surfaceOf(side, state.surface);
    const p = project(side, width, height, scale);
    for (let f = 0; f < faces.length; f += 3) {
      const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
      const ax = p[a], ay = p[a + 1];
      const ux = p[b] - ax, uy = p[b + 1] - ay, vx = p[c] - ax, vy = p[c + 1] - ay;
      const area = ux * vy - uy * vx;
      if (area >= 0) continue;
      const x0 = Math.max(0, Math.ceil(Math.min(ax, p[b], p[c]) - 0.5));
      const x1 = Math.min(width - 1, Math.floor(Math.max(ax, p[b], p[c]) - 0.5));
      const y0 = Math.max(0, Math.ceil(Math.min(ay, p[b + 1], p[c + 1]) - 0.5));
      const y1 = Math.min(height - 1, Math.floor(Math.max(ay, p[b + 1], p[c + 1]) - 0.5));
      for (let y = y0; y <= y1; y++) {
        for (let x = x0; x <= x1; x++) {
          const dx = x + 0.5 - ax, dy = y + 0.5 - ay;
          const w1 = (dx * vy - dy * vx) / area, w2 = (ux * dy - uy * dx) / area;
          if (w1 < 0 || w2 < 0 || w1 + w2 > 1) continue;
          const z = p[a + 2] * (1 - w1 - w2) + p[b + 2] * w1 + p[c + 2] * w2;
          const at = y * width + x;
          if (z > depth[at]) { depth[at] = z; face[at] = f; second[at] = w1; third[at] = w2; which[at] = number; }
        }
      }
    }
  });
  return { width, height, scale, depth, face, second, third, which, sides: sides() };
}

function shade(raster) {
  const map = scene.maps[state.map];
  const image = new ImageData(raster.width, raster.height);
  const pixels = image.data;
  const table = map.categories ? null : decode(map.colors, Uint8Array);
  const palette = map.categories && map.categories.map((c) => [1, 3, 5].map((k) => parseInt(c.color.slice(k, k + 2), 16)));
  const span = state.high - state.low || 1;
  const axes = camera.axes[2], lit = state.surface !== "flat";
  const parts = raster.sides.map((side) => ({ ...hemispheres[side], ...surfaceOf(side, state.surface),
    shown: hemispheres[side].values[state.map] }));
  for (let at = 0; at < raster.face.length; at++) {
    const f = raster.face[at];
    if (f < 0) continue;
    const part = parts[raster.which[at]];
    const corners = [part.faces[f], part.faces[f + 1], part.faces[f + 2]];
    const weights = [1 - raster.second[at] - raster.third[at], raster.second[at], raster.third[at]];
    let sulcal = 0, distance = 0, facing = 0, total = 0, weight = 0, reach = 0;
    const votes = palette ? new Float32Array(palette.length) : null;
    for (let k = 0; k < 3; k++) {
      const v = corners[k], w = weights[k];
      sulcal += w * part.sulcal[v] / 127; distance += w * part.distance[v];
      facing += w * (part.normals[3 * v] * axes[0] + part.normals[3 * v + 1] * axes[1] + part.normals[3 * v + 2] * axes[2]);
      const source = part.nearest[v];
      if (source < 0) continue;
      reach += w;
      const value = part.shown[source];
      if (Number.isNaN(value)) continue;
      weight += w; total += w * value;
      if (votes && value >= 0) votes[Math.round(value)] += w;
    }
    facing = lit ? Math.max(0, Math.min(1, facing)) : 1;
    const rim = Math.pow(1 - facing, 1.5);
    let rgb;
    const gray = 255 * (0.80 - 0.10 * sulcal);
    const covered = distance <= scene.radius, value = total / weight;
    const strong = palette || Math.abs(value) >= state.threshold;
    if (covered && weight > 0.5 * reach && weight > 0 && strong) {
      if (palette) {
        rgb = palette[votes.indexOf(Math.max(...votes))];
      } else {
        const index = 3 * Math.max(0, Math.min(255, Math.round(255 * (value - state.low) / span)));
        rgb = [table[index], table[index + 1], table[index + 2]];
      }
      rgb = rgb.map((c) => c * (1 - 0.10 * rim));
    } else {
      const tint = covered ? [246, 244, 237].map((c) => 0.35 * gray + 0.65 * c) : [gray, gray, gray];
      rgb = tint.map((c) => c * (1 - 0.35 * rim));
    }
    pixels[4 * at] = rgb[0]; pixels[4 * at + 1] = rgb[1]; pixels[4 * at + 2] = rgb[2]; pixels[4 * at + 3] = 255;
  }
  return image;
}

function draw(quick = false) {
  const box = canvas.getBoundingClientRect();
  if (!box.width || !box.height) return;
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio); canvas.height = Math.round(box.height * ratio);
  const detail = quick ? 0.6 : Math.min(ratio * 1.5, 2);
  const width = Math.round(box.width * detail), height = Math.round(box.height * detail);
  const [half, tall] = extentOf();
  const scale = camera.zoom * 0.94 * Math.min(width / (2 * half), height / (2 * tall));
  frame = rasterize(width, height, scale);
  layer.width = width; layer.height = height;
  layer.getContext("2d").putImageData(shade(frame), 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(layer, 0, 0, canvas.width, canvas.height);
  if (state.outlines) drawAreas(ratio, box, detail);
}

function seen(point, side) {
  const middle = state.hemisphere === "both" ? 0 : surfaceOf(side, state.surface).middle;
  const axes = state.surface === "flat" ? [[1, 0, 0], [0, 1, 0], [0, 0, 1]] : camera.axes;
  const [x, y, z] = [point[0] - middle, point[1], point[2]];
  const along = axes.map((axis) => axis[0] * x + axis[1] * y + axis[2] * z);
  const px = frame.width / 2 + frame.scale * (along[0] + camera.x);
  const py = frame.height / 2 - frame.scale * (along[1] + camera.y);
  const column = Math.floor(px), row = Math.floor(py);
  const inside = column >= 0 && row >= 0 && column < frame.width && row < frame.height;
  const at = row * frame.width + column;
  return [px, py, inside && frame.face[at] >= 0 && along[2] > frame.depth[at] - 2.5];
}

function drawAreas(ratio, box, detail) {
  const factor = ratio / detail;
  const path = new Path2D();
  const names = [];
  for (const side of frame.sides) {
    surfaceOf(side, state.surface).borders.forEach((lines, roi) => {
      let count = 0, sumX = 0, sumY = 0;
      for (const line of lines) {
        let pen = false;
        for (const point of line) {
          const [x, y, visible] = seen(point, side);
          if (visible) {
            if (pen) path.lineTo(x * factor, y * factor); else path.moveTo(x * factor, y * factor);
            count++; sumX += x * factor; sumY += y * factor;
          }
          pen = visible;
        }
      }
      if (count > 5) names.push({ text: scene.rois[roi], x: sumX / count, y: sumY / count, count });
    });
  }
  context.lineJoin = "round";
  for (const [color, width] of [["rgba(255,255,255,0.75)", 2.6], ["#1a1a1a", 1.1]]) {
    context.strokeStyle = color; context.lineWidth = width * ratio; context.stroke(path);
  }
  // The most visible ROIs are labeled first; a name that would overlap another is hidden until you zoom in.
  context.font = `${12 * ratio}px Helvetica, Arial, sans-serif`;
  context.textAlign = "center"; context.textBaseline = "middle";
  const taken = [];
  for (const name of names.sort((a, b) => b.count - a.count)) {
    const w = context.measureText(name.text).width / 2 + 3 * ratio, h = 8 * ratio;
    if (taken.some((o) => Math.abs(o.x - name.x) < o.w + w && Math.abs(o.y - name.y) < o.h + h)) continue;
    taken.push({ x: name.x, y: name.y, w, h });
    context.fillStyle = "rgba(255,255,255,0.8)";
    context.fillRect(name.x - w, name.y - h, 2 * w, 2 * h);
    context.fillStyle = "#1a1a1a"; context.fillText(name.text, name.x, name.y);
  }
}

// ---------------------------------------------------------------- pointing

function vertexAt(x, y) {
  if (!frame) return null;
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((x - box.left) / box.width * frame.width);
  const row = Math.floor((y - box.top) / box.height * frame.height);
  const at = row * frame.width + column;
  if (column < 0 || row < 0 || column >= frame.width || row >= frame.height || frame.face[at] < 0) return null;
  const side = frame.sides[frame.which[at]];
  const { faces } = surfaceOf(side, state.surface);
  const weights = [1 - frame.second[at] - frame.third[at], frame.second[at], frame.third[at]];
  const vertex = faces[frame.face[at] + weights.indexOf(Math.max(...weights))];
  return { side, vertex };
}

const number = (value) => Number.isNaN(value) ? "–"
  : (Math.abs(value) >= 0.001 || value === 0 ? value.toFixed(3) : value.toExponential(1)).replace("-", "−");

function describe({ side, vertex }) {
  const hemisphere = hemispheres[side];
  const source = hemisphere.distance[vertex] <= scene.radius ? hemisphere.nearest[vertex] : -1;
  const lines = [`${side} hemisphere, vertex ${vertex}`];
  const rois = scene.rois.filter((_, index) => hemisphere.rois[index].member.has(vertex));
  if (rois.length) lines.push(rois.join(", "));
  if (source < 0) lines.push("no voxel here");
  else if (source !== vertex) lines.push(`nearest voxel: vertex ${source}`);
  const rows = source < 0 ? [] : scene.maps.map((map, index) => {
    const value = hemisphere.values[index][source];
    const text = map.categories ? (value >= 0 ? map.categories[Math.round(value)].name : "–") : number(value);
    return [map.name, text, index === state.map];
  });
  return { lines, rows };
}

const tip = element("tip");
function point(event) {
  const hit = vertexAt(event.clientX, event.clientY);
  tip.hidden = !hit;
  if (!hit) return;
  const { lines, rows } = describe(hit);
  tip.replaceChildren(...lines.map((text, index) => {
    const line = document.createElement("div");
    line.textContent = text;
    if (index === 0) line.style.fontWeight = "600";
    return line;
  }));
  const table = document.createElement("table");
  for (const [name, value, now] of rows) {
    const row = table.insertRow();
    if (now) row.className = "now";
    row.insertCell().textContent = name; row.insertCell().textContent = value;
  }
  tip.append(table);
  const box = canvas.getBoundingClientRect();
  const x = event.clientX - box.left, y = event.clientY - box.top;
  tip.style.left = `${Math.max(4, x + 16 + tip.offsetWidth > box.width ? x - tip.offsetWidth - 12 : x + 16)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, box.height - tip.offsetHeight - 4))}px`;
}

let drag = null, settle = null;
function soon() { clearTimeout(settle); settle = setTimeout(() => draw(), 140); }
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY }; canvas.setPointerCapture(event.pointerId); tip.hidden = true;
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag) { point(event); return; }
  const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
  drag = { x: event.clientX, y: event.clientY };
  const perMillimeter = frame.scale * canvas.getBoundingClientRect().width / frame.width;
  if (event.shiftKey || state.surface === "flat") { camera.x += dx / perMillimeter; camera.y -= dy / perMillimeter; }
  else turn(dx * 0.008, dy * 0.008);
  draw(true); soon();
});
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { if (drag) { drag = null; draw(); } });
canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = canvas.getBoundingClientRect();
  const perMillimeter = frame.scale * box.width / frame.width;
  const x = (event.clientX - box.left - box.width / 2) / perMillimeter, y = -(event.clientY - box.top - box.height / 2) / perMillimeter;
  const zoom = Math.max(0.5, Math.min(20, camera.zoom * Math.exp(-event.deltaY * 0.0015)));
  const ratio = camera.zoom / zoom;
  camera.x -= x * (1 - ratio); camera.y -= y * (1 - ratio); camera.zoom = zoom;
  draw(true); soon();
}, { passive: false });
canvas.addEventListener("dblclick", () => look("posterior"));
canvas.addEventListener("keydown", (event) => {
  const turns = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] };
  if (turns[event.key]) turn(...turns[event.key]);
  else if (event.key === "+" || event.key === "=") camera.zoom *= 1.2;
  else if (event.key === "-") camera.zoom /= 1.2;
  else if (event.key === "0") { look("posterior"); return; }
  else return;
  event.preventDefault(); draw();
});

// ---------------------------------------------------------------- controls

function choices(parent, name, texts, chosen, change) {
  texts.forEach((text, index) => {
    const label = document.createElement("label"), input = document.createElement("input");
    input.type = "radio"; input.name = name; input.checked = index === chosen;
    input.addEventListener("change", () => change(index));
    label.append(input, document.createTextNode(text)); parent.append(label);
  });
}

function choose(index) {
  const map = scene.maps[index];
  state.map = index; state.threshold = 0;
  element("label").textContent = map.label; element("quantity").textContent = map.quantity;
  element("scale").hidden = Boolean(map.categories);
  element("key").replaceChildren(...(map.categories || []).map(({ name, color }) => {
    const item = document.createElement("li"), mark = document.createElement("i");
    mark.style.background = color; item.append(mark, document.createTextNode(name));
    return item;
  }));
  if (!map.categories) {
    [state.low, state.high] = map.limits;
    element("low").value = +state.low.toPrecision(4); element("high").value = +state.high.toPrecision(4);
    element("threshold").value = 0; element("from").textContent = "0";
    const table = decode(map.colors, Uint8Array), bar = element("bar").getContext("2d"), image = bar.createImageData(256, 1);
    for (let i = 0; i < 256; i++) image.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    bar.putImageData(image, 0, 0);
  }
  draw();
}

for (const id of ["low", "high"]) {
  element(id).addEventListener("change", (event) => {
    const value = parseFloat(event.target.value);
    if (Number.isFinite(value)) { state[id] = value; draw(); }
  });
}
element("threshold").addEventListener("input", (event) => {
  state.threshold = event.target.value / 100 * Math.max(Math.abs(state.low), Math.abs(state.high));
  element("from").textContent = number(state.threshold);
  draw(true); soon();
});
element("outlines").addEventListener("change", (event) => { state.outlines = event.target.checked; draw(); });
element("rois").hidden = !scene.rois.length;
choices(element("maps"), "map", scene.maps.map((map) => map.name), 0, choose);
const surfaces = ["inflated", "pial", "flat"], which = ["both", "left", "right"];
choices(element("surface"), "surface", surfaces, 0, (index) => { state.surface = surfaces[index]; camera.x = 0; camera.y = 0; camera.zoom = 1; draw(); });
choices(element("hemisphere"), "hemisphere", which, 0, (index) => { state.hemisphere = which[index]; camera.x = 0; camera.y = 0; draw(); });
for (const name of Object.keys(VIEWS)) {
  const button = document.createElement("button");
  button.type = "button"; button.textContent = name;
  button.addEventListener("click", () => look(name));
  element("views").append(button);
}
camera.axes = [[1, 0, 0], [0, 0, 1], [0, -1, 0]];
choose(0);
look("posterior");
new ResizeObserver(() => draw()).observe(canvas.parentElement);
