// A drawing pad: the pointer leaves ink, and `image()` is the drawing as a data set has its digits.

class Pad {
  constructor(canvas, side, changed) {
    Object.assign(this, { canvas, side, ink: new Float32Array(side * side), last: null });
    const draw = (event) => {
      const box = canvas.getBoundingClientRect();
      const next = [((event.clientX - box.left) / box.width) * side, ((event.clientY - box.top) / box.height) * side];
      this.line(this.last ?? next, next);
      this.last = next;
      this.show();
      changed();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); this.last = null; draw(event); });
    canvas.addEventListener("pointermove", (event) => { if (this.last && event.buttons) draw(event); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.last = null; });
    this.show();
  }

  // A stroke of ink, two pixels to each side.
  line([x0, y0], [x1, y1]) {
    const { side, ink } = this, steps = Math.ceil(Math.hypot(x1 - x0, y1 - y0) * 4) + 1;
    for (let i = 0; i <= steps; i += 1) {
      const x = x0 + ((x1 - x0) * i) / steps, y = y0 + ((y1 - y0) * i) / steps;
      for (let py = Math.max(0, Math.floor(y - 2)); py <= Math.min(side - 1, y + 2); py += 1) {
        for (let px = Math.max(0, Math.floor(x - 2)); px <= Math.min(side - 1, x + 2); px += 1) {
          ink[py * side + px] = Math.max(ink[py * side + px], clamp(1.9 - Math.hypot(px + 0.5 - x, py + 0.5 - y), 0, 1));
        }
      }
    }
  }

  clear() {
    this.ink.fill(0);
    this.show();
  }

  show() {
    const { canvas, side, ink } = this, pixels = new ImageData(side, side);
    for (let i = 0; i < ink.length; i += 1) pixels.data.set([255 * ink[i], 255 * ink[i], 255 * ink[i], 255], 4 * i);
    canvas.width = canvas.height = side;
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // The drawing in 0..1, 20 of 28 pixels high or wide and with its mass in the middle; null of an empty pad.
  image() {
    const { side, ink } = this, whole = (20 / 28) * side, middle = (side - 1) / 2;
    let [left, right, top, bottom] = [side, -1, side, -1];
    ink.forEach((value, i) => {
      if (value < 0.3) return;
      const x = i % side, y = Math.floor(i / side);
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    });
    if (right < 0) return null;
    const scale = Math.max(right - left + 1, bottom - top + 1) / whole;
    const inside = (x, y) => x >= 0 && y >= 0 && x < side && y < side;
    const sample = (x, y) => {
      const fx = Math.floor(x), fy = Math.floor(y), a = x - fx, b = y - fy;
      const value = (i, j) => (inside(i, j) ? ink[j * side + i] : 0);
      return (1 - b) * ((1 - a) * value(fx, fy) + a * value(fx + 1, fy)) + b * ((1 - a) * value(fx, fy + 1) + a * value(fx + 1, fy + 1));
    };
    const boxed = new Float32Array(side * side);
    let mass = 0, mx = 0, my = 0;
    boxed.forEach((_, i) => {
      const x = i % side, y = Math.floor(i / side);
      const value = sample((left + right) / 2 + (x - middle) * scale, (top + bottom) / 2 + (y - middle) * scale);
      boxed[i] = value; mass += value; mx += value * x; my += value * y;
    });
    const dx = Math.round(mx / mass - middle), dy = Math.round(my / mass - middle);
    return boxed.map((_, i) => {
      const x = (i % side) + dx, y = Math.floor(i / side) + dy;
      return inside(x, y) ? boxed[y * side + x] : 0;
    });
  }
}
