// The viewer. One file of over 600 lines: a page that opens offline has to hold all of it.
"use strict";
// Draws the meshes described in #scene, whose arrays lie in #data (gzip, base64). Lengths are in millimeters, y is up;
// colors are linear within shaders.

const $ = (id) => document.getElementById(id);
// Colors of the error, from zero to the largest.
const HEAT = ["#27408f", "#2f7fc1", "#35b0a2", "#8fce5a", "#f4d648", "#f0883a", "#c22a2f"];
const LENS = Math.tan((24 / 2) * Math.PI / 180); // tangent of half the vertical field of view
const canvas = $("canvas"), panel = $("panel");
const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });

const show = { colour: true, wireframe: false, heat: false, landmarks: false };
const eye = { yaw: 0, pitch: 0, distance: 1, target: [0, 0, 0], fitted: true };
let meshes = [], mesh = null, dirty = false, moving = null;

// ---- shaders ---------------------------------------------------------------

const SHADING = `#version 300 es
precision highp float;
precision highp sampler2DShadow;
// centroid: attributes must not be extrapolated to the pixel's center where a triangle does not cover it
centroid in vec3 at, normal, tint, lit; centroid in vec2 place, wrong;
uniform sampler2D image; uniform sampler2DShadow shadow;
uniform int look; // 0 clay, 1 colors, 2 texture, 3 error
uniform vec3 heat[${HEAT.length}]; uniform float most;
out vec4 result;

vec3 linear(vec3 c) { return mix(c / 12.92, pow((c + .055) / 1.055, vec3(2.4)), step(.04045, c)); }
vec3 encoded(vec3 c) { return mix(c * 12.92, 1.055 * pow(max(c, 1e-5), vec3(1. / 2.4)) - .055, step(.0031308, c)); }

float sunlit() { // visible share of the key light: 25 taps of a shadow map, far enough apart for a soft edge
  float sum = 0.;
  for (int i = -2; i <= 2; i++)
    for (int j = -2; j <= 2; j++) sum += texture(shadow, lit + vec3(vec2(i, j) * .0035, 0.));
  return sum / 25.;
}
// Subsurface scattering: light leaves the skin beside where it entered, red the farthest, so the terminator is soft and
// warm.
vec3 soft(float d, vec3 w) { vec3 t = max((d + w) / (1. + w), 0.); return t * t * (1. + w) / (1. + 2. * w) + t * .15; }
float gloss(vec3 n, vec3 l, vec3 v, float power) {
  return pow(max(dot(n, normalize(l + v)), 0.), power) * (power + 2.) / 50.;
}

void main() {
  vec3 v = normalize(-at), n = normalize(normal);
  // The back of the surface, visible through the neck. Found by the normal: gl_FrontFacing is noise
  // for triangles smaller than a pixel.
  float facing = dot(n, v), inside = mix(.35, 1., smoothstep(-.35, -.2, facing));
  if (facing < -.275) n = -n;
  vec3 albedo = vec3(.40, .375, .35);
  bool skin = look == 1 || look == 2;
  if (look == 1) albedo = linear(tint);
  if (look == 2) albedo = texture(image, place).rgb;
  if (look == 3 && wrong.y > .5) { // y: interpolated share of the triangle's corners that were measured
    float x = clamp(wrong.x / wrong.y / most, 0., 1.) * float(${HEAT.length - 1});
    int k = min(int(x), ${HEAT.length - 2});
    albedo = linear(mix(heat[k], heat[k + 1], x - float(k)));
  }
  vec3 wrap = skin ? vec3(.42, .26, .20) : vec3(.25);
  vec3 key = normalize(vec3(-.50, .50, .95)), fill = normalize(vec3(.90, .05, .55));
  vec3 rim = normalize(vec3(.45, .45, -.85));
  float arrives = sunlit();
  vec3 arriving = skin ? vec3(arrives) + vec3(.10, .02, .0) * arrives * (1. - arrives) * 4. : vec3(arrives);
  vec3 light = arriving * soft(dot(n, key), wrap) * vec3(1.62, 1.54, 1.45);
  light += soft(dot(n, fill), wrap) * vec3(.38, .41, .46);
  light += mix(vec3(.26, .24, .23), vec3(.42, .44, .47), n.y * .5 + .5);
  float edge = pow(1. - max(dot(n, v), 0.), 4.);
  float shine = arrives * (gloss(n, key, v, 22.) * .10 + gloss(n, key, v, 90.) * .05) + gloss(n, fill, v, 22.) * .03;
  shine += edge * (.04 + .22 * max(dot(n, rim), 0.));
  if (look == 3) { light = mix(light, vec3(1.), .45); shine *= .3; }
  vec3 c = (albedo * light + shine) * inside;
  c = mix(c, .75 + (1. - exp((.75 - c) * 2.5)) * .25, step(.75, c)); // highlights roll off instead of clipping
  result = vec4(encoded(c), 1.);
}`;

const SURFACE = `#version 300 es
in vec3 position, direction, colour; in vec2 uv, error;
uniform mat4 view, project, sun;
centroid out vec3 at, normal, tint, lit; centroid out vec2 place, wrong;
void main() {
  vec4 p = view * vec4(position, 1.);
  at = p.xyz; normal = mat3(view) * direction; tint = colour; place = uv; wrong = error;
  // Slightly above the surface, against self-shadowing.
  lit = (sun * vec4(position + direction * 1.6, 1.)).xyz * .5 + .5;
  gl_Position = project * p;
}`;

const DEPTH = `#version 300 es
in vec3 position; uniform mat4 sun; void main() { gl_Position = sun * vec4(position, 1.); }`;
const NOTHING = `#version 300 es
void main() {}`;

// Slightly nearer, to lie on the surface.
const LINES = `#version 300 es
in vec3 position; uniform mat4 view, project;
void main() { vec4 p = view * vec4(position, 1.); p.xyz *= .9985; gl_Position = project * p; }`;
const LINE = `#version 300 es
precision highp float; uniform vec4 ink; out vec4 result; void main() { result = vec4(ink.rgb * ink.a, ink.a); }`;

const POINTS = `#version 300 es
in vec3 position; uniform mat4 view, project; uniform float size;
void main() { vec4 p = view * vec4(position, 1.); p.xyz *= .992; gl_Position = project * p; gl_PointSize = size; }`;
const POINT = `#version 300 es
precision highp float; out vec4 result;
void main() {
  float r = length(gl_PointCoord - .5) * 2., cover = 1. - smoothstep(.86, 1., r);
  result = vec4(mix(vec3(.10, .50, 1.), vec3(1.), smoothstep(.58, .70, r)) * cover, cover);
}`;

const PLACES = ["position", "direction", "colour", "uv", "error"];

function program(vertex, fragment) {
  const p = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(p, shader);
  }
  PLACES.forEach((name, k) => gl.bindAttribLocation(p, k, name));
  gl.linkProgram(p);
  if (!gl.getProgramParameter(p, gl.LINK_STATUS))
    throw new Error(gl.getProgramInfoLog(p) || "a shader failed to compile");
  const at = {};
  for (let k = 0; k < gl.getProgramParameter(p, gl.ACTIVE_UNIFORMS); k++) {
    const name = gl.getActiveUniform(p, k).name.replace("[0]", "");
    at[name] = gl.getUniformLocation(p, name);
  }
  return { p, at };
}

// ---- data ------------------------------------------------------------------

async function unpack() {
  const text = atob($("data").textContent.trim()), packed = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) packed[k] = text.charCodeAt(k);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

const TYPES = { Uint8Array, Int16Array, Uint16Array, Uint32Array };

function array(data, ref) {
  const type = TYPES[ref.type];
  return new type(data, ref.at[0], ref.at[1] / type.BYTES_PER_ELEMENT);
}

function unspread(data, ref) {
  const stored = array(data, ref), columns = ref.low.length, out = new Float32Array(stored.length);
  for (let k = 0; k < stored.length; k++) out[k] = ref.low[k % columns] + ref.step[k % columns] * stored[k];
  return out;
}

async function load(data, given) {
  const count = given.count, copies = given.copies ? array(data, given.copies) : new Uint32Array(0);
  const drawn = count + copies.length;
  const m = { ...given, drawn, base: unspread(data, given.vertices), copies, weights: new Map() };
  m.faces = Uint32Array.from(array(data, given.faces)); // for drawing: seams have vertices of their own
  m.corners = m.faces.map((v) => (v < count ? v : copies[v - count])); // for computing: without those
  m.position = new Float32Array(count * 3);
  m.normal = new Float32Array(count * 3);
  m.both = new Float32Array(drawn * 6);
  const source = (k) => (k < count ? k : copies[k - count]);
  m.array = gl.createVertexArray();
  gl.bindVertexArray(m.array);
  m.moving = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, m.moving);
  gl.bufferData(gl.ARRAY_BUFFER, m.both.byteLength, gl.DYNAMIC_DRAW);
  attribute(0, 3, gl.FLOAT, false, 24, 0);
  attribute(1, 3, gl.FLOAT, false, 24, 12);
  if (given.colours) {
    const from = array(data, given.colours), rgb = new Uint8Array(drawn * 4);
    for (let k = 0; k < drawn; k++) for (let c = 0; c < 3; c++) rgb[4 * k + c] = from[3 * source(k) + c];
    fixed(rgb), attribute(2, 3, gl.UNSIGNED_BYTE, true, 4, 0);
  }
  if (given.uv) fixed(unspread(data, given.uv)), attribute(3, 2, gl.FLOAT, false, 0, 0);
  if (given.error) {
    const from = array(data, given.error);
    m.wrong = Float32Array.from(from, (e) => (e === 65535 ? -1 : e * given.error.step));
    const pairs = new Float32Array(drawn * 2); // the error, and 1 where it was measured
    for (let k = 0; k < drawn; k++)
      if (m.wrong[source(k)] >= 0) pairs[2 * k] = m.wrong[source(k)], pairs[2 * k + 1] = 1;
    fixed(pairs), attribute(4, 2, gl.FLOAT, false, 0, 0);
  }
  m.index = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, m.index);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, m.faces, gl.STATIC_DRAW);
  gl.bindVertexArray(null);
  if (given.texture)
    m.image = await texture(new Blob([new Uint8Array(data, ...given.texture)], { type: "image/jpeg" }));
  for (const morph of m.morphs) {
    if (morph.weight) m.weights.set(morph.name, morph.weight);
    morph.unpack = () => {
      const gaps = array(data, morph.gaps), planes = array(data, morph.offsets), n = gaps.length;
      morph.index = new Uint32Array(n), morph.delta = new Float32Array(n * 3);
      for (let k = 0, v = 0; k < n; k++) {
        morph.index[k] = v += gaps[k];
        for (let c = 0; c < 3; c++) morph.delta[3 * k + c] = planes[c * n + k] * morph.step;
      }
    };
  }
  deform(m);
  return m;
}

function attribute(place, size, type, normalized, stride, offset) {
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, size, type, normalized, stride, offset);
}

function fixed(values) {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
}

async function texture(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const out = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, out);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  const sharp = gl.getExtension("EXT_texture_filter_anisotropic");
  if (sharp) gl.texParameterf(gl.TEXTURE_2D, sharp.TEXTURE_MAX_ANISOTROPY_EXT, 8);
  return out;
}

// ---- moving ----------------------------------------------------------------

function deform(m) { // apply the weights, compute smooth normals, and upload both
  const p = m.position, n = m.normal, c = m.corners;
  p.set(m.base);
  for (const morph of m.morphs) {
    const w = m.weights.get(morph.name);
    if (!w) continue;
    if (!morph.index) morph.unpack();
    const { index, delta } = morph;
    for (let k = 0; k < index.length; k++) for (let a = 0; a < 3; a++) p[3 * index[k] + a] += w * delta[3 * k + a];
  }
  n.fill(0);
  for (let f = 0; f < c.length; f += 3) {
    const i = 3 * c[f], j = 3 * c[f + 1], k = 3 * c[f + 2];
    const ax = p[j] - p[i], ay = p[j + 1] - p[i + 1], az = p[j + 2] - p[i + 2];
    const bx = p[k] - p[i], by = p[k + 1] - p[i + 1], bz = p[k + 2] - p[i + 2];
    const x = ay * bz - az * by, y = az * bx - ax * bz, z = ax * by - ay * bx;
    n[i] += x, n[j] += x, n[k] += x;
    n[i + 1] += y, n[j + 1] += y, n[k + 1] += y;
    n[i + 2] += z, n[j + 2] += z, n[k + 2] += z;
  }
  for (let k = 0; k < m.drawn; k++) {
    const v = 3 * (k < m.count ? k : m.copies[k - m.count]), s = 1 / (Math.hypot(n[v], n[v + 1], n[v + 2]) || 1);
    for (let a = 0; a < 3; a++) m.both[6 * k + a] = p[v + a], m.both[6 * k + 3 + a] = n[v + a] * s;
  }
  gl.bindBuffer(gl.ARRAY_BUFFER, m.moving);
  gl.bufferSubData(gl.ARRAY_BUFFER, 0, m.both);
  m.stale = false;
}

function setMorph(name, value) {
  if (value) mesh.weights.set(name, value);
  else mesh.weights.delete(name);
  mesh.stale = true;
  const row = mesh.rows.get(name);
  if (row) row(value);
  redraw();
}

function glide(weights) { // animate to other weights within a quarter of a second
  const from = new Map(mesh.weights), names = new Set([...from.keys(), ...Object.keys(weights)]);
  const start = performance.now(), still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  moving = (now) => {
    const t = still ? 1 : Math.min(Math.max((now - start) / 250, 0), 1), s = t * t * (3 - 2 * t);
    for (const name of names) setMorph(name, (1 - s) * (from.get(name) || 0) + s * (weights[name] || 0));
    if (t === 1) moving = null;
  };
  redraw();
}

function randomWeights() {
  const [low, high] = mesh.range, out = {}, presets = Object.values(mesh.presets);
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  if (presets.length) {
    for (const share of [0.55 + 0.45 * Math.random(), 0.4 * Math.random()])
      for (const [name, w] of Object.entries(pick(presets))) out[name] = Math.min((out[name] || 0) + share * w, high);
  } else if (low < 0) {
    for (const morph of mesh.morphs)
      out[morph.name] = ((Math.random() + Math.random() + Math.random() - 1.5) * 2 * high) / 3;
  } else {
    for (let k = 0; k < 5; k++) out[pick(mesh.morphs).name] = low + (high - low) * Math.random() * 0.8;
  }
  return out;
}

// ---- drawing ---------------------------------------------------------------

// Matrices are column-major, as WebGL takes them.
function times(a, b) {
  const out = new Float32Array(16);
  for (let c = 0; c < 4; c++)
    for (let r = 0; r < 4; r++)
      for (let k = 0; k < 4; k++) out[4 * c + r] += a[4 * k + r] * b[4 * c + k];
  return out;
}

function turn() { // rotation of the mesh in front of the camera
  const a = Math.cos(eye.yaw), b = Math.sin(eye.yaw), c = Math.cos(eye.pitch), d = Math.sin(eye.pitch);
  return [a, b * d, -b * c, 0, 0, c, d, 0, b, -a * d, a * c, 0, 0, 0, 0, 1];
}

const shift = (x, y, z) => [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, x, y, z, 1];

function free() { // the part of the window that the panel does not cover, in CSS pixels
  const w = canvas.clientWidth, h = canvas.clientHeight, p = panel.getBoundingClientRect();
  if (p.width < w / 2) return { w, h, x: p.left / 2, y: h / 2, width: p.left, height: h };
  const top = ($("scale").hidden ? document.querySelector("header") : $("scale")).getBoundingClientRect().bottom;
  return { w, h, x: w / 2, y: (top + p.top) / 2, width: w, height: p.top - top };
}

function matrices() {
  const { w, h, x, y } = free(), far = eye.distance + 2 * mesh.radius;
  const near = Math.max(eye.distance - 2 * mesh.radius, far / 500);
  const project = [
    h / w / LENS, 0, 0, 0,
    0, 1 / LENS, 0, 0,
    1 - (2 * x) / w, (2 * y) / h - 1, (near + far) / (near - far), -1,
    0, 0, (2 * near * far) / (near - far), 0,
  ];
  const view = times(shift(0, 0, -eye.distance), times(turn(), shift(...eye.target.map((t) => -t))));
  // The key light stands beside the camera; its shadow map covers the whole mesh, wherever the target is.
  const l = Math.hypot(0.5, 0.5, 0.95), z = [-0.5 / l, 0.5 / l, 0.95 / l], side = Math.hypot(z[0], z[2]);
  const u = [z[2] / side, 0, -z[0] / side];
  const v = [z[1] * u[2], z[2] * u[0] - z[0] * u[2], -z[1] * u[0]], s = 1 / mesh.radius;
  const lamp = [
    u[0] * s, v[0] * s, -z[0] * s, 0,
    u[1] * s, v[1] * s, -z[1] * s, 0,
    u[2] * s, v[2] * s, -z[2] * s, 0,
    0, 0, 0, 1,
  ];
  return { project, view, sun: times(lamp, times(turn(), shift(...mesh.middle.map((t) => -t)))) };
}

let surface, depth, line, point, shadowMap, shadowFrame;
const SHADOW = 512;

function prepare() {
  surface = program(SURFACE, SHADING), depth = program(DEPTH, NOTHING);
  line = program(LINES, LINE), point = program(POINTS, POINT);
  shadowMap = gl.createTexture(), shadowFrame = gl.createFramebuffer();
  gl.bindTexture(gl.TEXTURE_2D, shadowMap);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, SHADOW, SHADOW);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
    gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
  for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
  gl.bindFramebuffer(gl.FRAMEBUFFER, shadowFrame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, shadowMap, 0);
  gl.drawBuffers([gl.NONE]);
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.enable(gl.DEPTH_TEST);
  gl.depthFunc(gl.LEQUAL);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  gl.useProgram(surface.p);
  gl.uniform3fv(surface.at.heat, HEAT.flatMap((c) => [1, 3, 5].map((k) => parseInt(c.slice(k, k + 2), 16) / 255)));
}

function draw() {
  if (mesh.stale) deform(mesh);
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const w = Math.round(canvas.clientWidth * ratio), h = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== w || canvas.height !== h) canvas.width = w, canvas.height = h;
  if (eye.fitted) fit();
  const { project, view, sun } = matrices();
  const use = ({ p, at }) => {
    gl.useProgram(p);
    if (at.view) gl.uniformMatrix4fv(at.view, false, view), gl.uniformMatrix4fv(at.project, false, project);
    if (at.sun) gl.uniformMatrix4fv(at.sun, false, sun);
    return at;
  };
  gl.bindVertexArray(mesh.array);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.index);

  gl.bindTexture(gl.TEXTURE_2D, null);
  gl.bindFramebuffer(gl.FRAMEBUFFER, shadowFrame);
  gl.viewport(0, 0, SHADOW, SHADOW);
  gl.clear(gl.DEPTH_BUFFER_BIT);
  gl.enable(gl.POLYGON_OFFSET_FILL);
  gl.polygonOffset(2, 4);
  use(depth);
  gl.drawElements(gl.TRIANGLES, mesh.faces.length, gl.UNSIGNED_INT, 0);
  // Not for the surface: steep parts at the outline would be pushed behind the far side.
  gl.disable(gl.POLYGON_OFFSET_FILL);

  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  gl.viewport(0, 0, w, h);
  gl.clearColor(0, 0, 0, 0);
  gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  const at = use(surface), heated = show.heat && mesh.error;
  gl.uniform1i(at.look, heated ? 3 : !show.colour ? 0 : mesh.image ? 2 : mesh.colours ? 1 : 0);
  gl.uniform1f(at.most, mesh.most || 1);
  gl.uniform1i(at.image, 0), gl.uniform1i(at.shadow, 1);
  gl.activeTexture(gl.TEXTURE1), gl.bindTexture(gl.TEXTURE_2D, shadowMap);
  gl.activeTexture(gl.TEXTURE0), gl.bindTexture(gl.TEXTURE_2D, mesh.image || null);
  gl.drawElements(gl.TRIANGLES, mesh.faces.length, gl.UNSIGNED_INT, 0);
  gl.activeTexture(gl.TEXTURE1), gl.bindTexture(gl.TEXTURE_2D, null), gl.activeTexture(gl.TEXTURE0);

  gl.enable(gl.BLEND);
  if (show.wireframe) {
    if (!mesh.wires) mesh.wires = wires(mesh);
    gl.uniform4f(use(line).ink, 0.04, 0.07, 0.12, 0.38);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, mesh.wires.buffer);
    gl.drawElements(gl.LINES, mesh.wires.count, gl.UNSIGNED_INT, 0);
  }
  if (show.landmarks && mesh.landmarks) {
    const p = mesh.position;
    const dots = Float32Array.from(
      mesh.landmarks.flatMap(([v, x, y, z]) => [p[3 * v] + x, p[3 * v + 1] + y, p[3 * v + 2] + z])
    );
    mesh.dots ||= { array: gl.createVertexArray(), buffer: gl.createBuffer() };
    gl.bindVertexArray(mesh.dots.array);
    gl.bindBuffer(gl.ARRAY_BUFFER, mesh.dots.buffer);
    gl.bufferData(gl.ARRAY_BUFFER, dots, gl.DYNAMIC_DRAW);
    attribute(0, 3, gl.FLOAT, false, 0, 0);
    gl.uniform1f(use(point).size, 9 * ratio);
    gl.drawArrays(gl.POINTS, 0, dots.length / 3);
  }
  gl.disable(gl.BLEND);
  gl.bindVertexArray(null);
}

function wires(m) { // a line per edge
  const c = m.corners, keys = new Float64Array(c.length);
  for (let k = 0; k < c.length; k++) {
    const a = c[k], b = c[k % 3 === 2 ? k - 2 : k + 1];
    keys[k] = Math.min(a, b) * m.count + Math.max(a, b);
  }
  keys.sort();
  const ends = [];
  keys.forEach((key, k) => key !== keys[k - 1] && ends.push(Math.floor(key / m.count), key % m.count));
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, Uint32Array.from(ends), gl.STATIC_DRAW);
  return { buffer, count: ends.length };
}

function redraw() {
  if (dirty) return;
  dirty = true;
  requestAnimationFrame((now) => {
    dirty = false;
    if (moving) moving(now);
    draw();
    if (moving) redraw();
  });
}

// ---- camera ----------------------------------------------------------------

function home() {
  eye.yaw = eye.pitch = 0;
  eye.target = [...mesh.middle];
  eye.fitted = true;
  fit();
  redraw();
}

function fit() { // fit the mesh into the free part of the window, until the user zooms
  const { h, width, height } = free(), [x, y, z] = mesh.half;
  eye.distance = z + (1.14 / LENS) * h * Math.max(y / height, x / width);
}

function orbit(dx, dy) {
  eye.yaw += dx;
  eye.pitch = Math.min(Math.max(eye.pitch + dy, -1.5), 1.5);
  redraw();
}

function pan(dx, dy) { // by pixels
  const m = turn(), s = (2 * LENS * eye.distance) / canvas.clientHeight;
  eye.target = eye.target.map((t, k) => t - (m[4 * k] * dx - m[4 * k + 1] * dy) * s);
  redraw();
}

function zoom(factor) {
  eye.fitted = false;
  eye.distance = Math.min(Math.max(eye.distance * factor, mesh.radius * 0.3), mesh.radius * 40);
  redraw();
}

function listen() {
  const fingers = new Map();
  canvas.addEventListener("pointerdown", (e) => {
    canvas.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, e);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (e) => fingers.delete(e.pointerId));
  canvas.addEventListener("pointermove", (e) => {
    const last = fingers.get(e.pointerId);
    if (!last) return;
    const dx = e.clientX - last.clientX, dy = e.clientY - last.clientY;
    if (fingers.size === 2) { // pinch: only one finger moves per event
      const other = [...fingers.values()].find((f) => f.pointerId !== e.pointerId);
      const apart = (f) => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
      zoom(apart(last) / Math.max(apart(e), 1));
      pan(dx / 2, dy / 2);
    } else if (e.buttons & 6 || e.shiftKey) pan(dx, dy);
    else orbit(dx * 0.008, dy * 0.008);
    fingers.set(e.pointerId, e);
  });
  const wheel = (e) => {
    e.preventDefault();
    zoom(Math.exp(Math.min(Math.max(e.deltaY * (e.deltaMode ? 20 : 1), -200), 200) * 0.0012));
  };
  canvas.addEventListener("wheel", wheel, { passive: false });
  canvas.addEventListener("contextmenu", (e) => e.preventDefault());
  canvas.addEventListener("dblclick", home);
  canvas.addEventListener("keydown", (e) => {
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (arrow) e.shiftKey ? pan(arrow[0] * 20, arrow[1] * 20) : orbit(arrow[0] * 0.1, arrow[1] * 0.1);
    else if (e.key === "+" || e.key === "=") zoom(0.9);
    else if (e.key === "-") zoom(1 / 0.9);
    else if (e.key === "0") home();
    else return;
    e.preventDefault();
  });
  addEventListener("resize", redraw);
  canvas.addEventListener("webglcontextlost", (e) => e.preventDefault());
  canvas.addEventListener("webglcontextrestored", () => location.reload());
}

// ---- controls --------------------------------------------------------------

function element(tag, more = {}, ...children) {
  const e = Object.assign(document.createElement(tag), more);
  e.append(...children);
  return e;
}

function fillTrack(input, zero) {
  const part = (v) => (100 * (v - input.min)) / (input.max - input.min), a = part(zero), b = part(input.value);
  input.style.setProperty("--from", `${Math.min(a, b)}%`);
  input.style.setProperty("--to", `${Math.max(a, b)}%`);
}

function controls() {
  for (const name of Object.keys(show)) $(name).addEventListener("change", (e) => toggle(name, e.target.checked));
  $("home").addEventListener("click", home);
  $("neutral").addEventListener("click", () => glide({}));
  $("random").addEventListener("click", () => glide(randomWeights()));
  $("search").addEventListener("input", filter);
  $("limit").addEventListener("input", (e) => limit(e.target.valueAsNumber));
  $("fold").addEventListener("click", () => {
    const folded = panel.classList.toggle("folded");
    $("fold").setAttribute("aria-expanded", String(!folded));
    redraw();
  });
  $("bar").style.background = `linear-gradient(90deg, ${HEAT.join(", ")})`;
  meshes.forEach((m, k) => $("pick").append(element("option", { value: k, textContent: m.name })));
  $("pick").hidden = meshes.length < 2;
  $("pick").addEventListener("change", (e) => choose(meshes[e.target.value]));
}

function toggle(name, on) {
  show[name] = on;
  $(name).checked = on;
  $("scale").hidden = !(show.heat && mesh.error);
  redraw();
}

function filter() {
  const wanted = $("search").value.trim().toLowerCase();
  for (const row of document.querySelectorAll(".slider")) row.hidden = !row.title.toLowerCase().includes(wanted);
  for (const group of document.querySelectorAll("details"))
    group.hidden = !group.querySelector(".slider:not([hidden])");
}

function slider(morph) {
  const [low, high] = mesh.range, name = morph.name;
  const input = element("input", { type: "range", min: low, max: high, step: 0.01, value: 0 });
  const value = element("output"), label = element("span", { textContent: name });
  const row = element("label", { className: "slider", title: name }, label, input, value);
  const put = (w) => {
    input.value = w;
    const shown = Math.round(w * 100) / 100 || 0; // not -0
    value.textContent = shown.toFixed(2);
    row.classList.toggle("moved", shown !== 0);
    fillTrack(input, Math.max(low, 0));
  };
  input.addEventListener("input", () => ((moving = null), setMorph(name, input.valueAsNumber)));
  row.addEventListener("dblclick", () => setMorph(name, 0));
  put(mesh.weights.get(name) || 0);
  mesh.rows.set(name, put);
  return row;
}

function choose(next) {
  const first = !mesh;
  moving = null;
  mesh = next;
  mesh.rows = new Map();
  $("pick").value = meshes.indexOf(mesh);
  const triangles = (mesh.faces.length / 3).toLocaleString("en");
  $("facts").textContent = `${mesh.count.toLocaleString("en")} vertices, ${triangles} triangles`;
  $("colour").parentElement.hidden = !mesh.image && !mesh.colours;
  $("heat").parentElement.hidden = !mesh.error;
  $("landmarks").parentElement.hidden = !mesh.landmarks;
  $("expression").hidden = !mesh.morphs.length;

  const groups = new Map(); // by the first word of the name: brow, eye, mouth ...
  for (const morph of mesh.morphs) {
    const word = (morph.name.match(/^[a-z]+/i) || [""])[0].match(/^.[a-z]*/)?.[0].toLowerCase() || "";
    groups.set(word, [...(groups.get(word) || []), slider(morph)]);
  }
  const headed = ([word, rows]) =>
    element("details", { open: true }, element("summary", { textContent: word || "others" }), ...rows);
  $("sliders").replaceChildren(...(groups.size > 1 ? [...groups].map(headed) : [...groups.values()].flat()));
  const preset = ([name, weights]) => element("button", { textContent: name, onclick: () => glide(weights) });
  $("presets").replaceChildren(...Object.entries(mesh.presets).map(preset));
  $("search").hidden = mesh.morphs.length < 8;
  filter();

  if (mesh.error) {
    const known = mesh.wrong.filter((e) => e >= 0).sort();
    const mean = known.reduce((a, b) => a + b, 0) / (known.length || 1);
    $("statistics").textContent = `mean ${mean.toFixed(2)}, max ${(known[known.length - 1] || 0).toFixed(2)} mm`;
    $("limit").max = Math.max(known[known.length - 1] || 1, 1e-3), $("limit").step = $("limit").max / 200;
    limit(mesh.most ?? (known[Math.floor(known.length * 0.98)] || 1));
  }
  for (const name of Object.keys(show)) toggle(name, show[name]);
  if (first) home();
  redraw();
}

function limit(most) {
  mesh.most = Math.max(most, $("limit").max / 200);
  $("limit").value = mesh.most;
  fillTrack($("limit"), 0);
  [0, mesh.most / 2, mesh.most].forEach((e, k) => {
    $("ticks").children[k].textContent = `${e.toFixed(e && mesh.most < 1 ? 2 : 1)} mm`;
  });
  redraw();
}

function measure(m) { // bounding box of the neutral mesh
  const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
  m.base.forEach((x, k) => ((low[k % 3] = Math.min(low[k % 3], x)), (high[k % 3] = Math.max(high[k % 3], x))));
  m.middle = low.map((x, k) => (x + high[k]) / 2);
  m.half = low.map((x, k) => (high[k] - x) / 2);
  m.radius = 1.1 * Math.hypot(...m.half) || 1;
}

async function start() {
  if (!gl) throw new Error("This page needs WebGL 2, which this browser lacks or has disabled.");
  if (!("DecompressionStream" in window))
    throw new Error("This browser is too old for this page: a browser of 2023 or later is needed.");
  prepare();
  const data = await unpack();
  for (const given of JSON.parse($("scene").textContent)) meshes.push(await load(data, given));
  meshes.forEach(measure);
  controls();
  listen();
  choose(meshes[0]);
  draw();
}

const ready = start().catch((error) => {
  $("message").textContent = error.message;
  $("message").hidden = false;
  panel.hidden = true;
  throw error;
});

// For programs: read what the page shows, and control it.
window.viewer = {
  ready,
  setMorph,
  show: toggle,
  choose: (k) => choose(meshes[k]),
  weights: () => Object.fromEntries(mesh.weights),
  vertices: () => (mesh.stale && deform(mesh), mesh.position),
  eye,
  pixels() { // RGBA, bottom row first
    draw();
    const out = new Uint8Array(canvas.width * canvas.height * 4);
    gl.readPixels(0, 0, canvas.width, canvas.height, gl.RGBA, gl.UNSIGNED_BYTE, out);
    return out;
  },
};
