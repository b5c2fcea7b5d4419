"use strict";
// Where we stand and look: a point that we turn about. World coordinates have y up.
class Orbit {
  constructor() {
    this.fov = (42 * Math.PI) / 180;
    this.aspect = 1;
    this.width = this.height = 1;
    this.set({ target: [0, 0, 0], radius: 1, azimuth: 0, polar: 1.2 });
    this.extent = 1;
  }

  set(state) {
    Object.assign(this, { ...state, target: [...(state.target || this.target)] });
  }

  get state() {
    return { target: [...this.target], radius: this.radius, azimuth: this.azimuth, polar: this.polar };
  }

  // Right, up and back axes of the view, and the eye.
  get basis() {
    const [sa, ca, sp, cp] = [Math.sin(this.azimuth), Math.cos(this.azimuth), Math.sin(this.polar), Math.cos(this.polar)];
    const back = [sp * sa, cp, sp * ca];
    const right = [ca, 0, -sa];
    const up = [back[1] * right[2] - back[2] * right[1], back[2] * right[0] - back[0] * right[2], back[0] * right[1] - back[1] * right[0]];
    const eye = this.target.map((value, i) => value + back[i] * this.radius);
    return { right, up, back, eye };
  }

  // Function from a point (x, y, z) to [x px, y px, depth]; depth is below 0 behind the eye.
  projector() {
    const { right, up, back, eye } = this.basis;
    const focal = this.height / 2 / Math.tan(this.fov / 2);
    return (x, y, z) => {
      const [dx, dy, dz] = [x - eye[0], y - eye[1], z - eye[2]];
      const depth = -(back[0] * dx + back[1] * dy + back[2] * dz);
      const scale = focal / Math.max(depth, 1e-9);
      return [
        this.width / 2 + scale * (right[0] * dx + right[1] * dy + right[2] * dz),
        this.height / 2 - scale * (up[0] * dx + up[1] * dy + up[2] * dz),
        depth,
      ];
    };
  }

  resize(width, height) {
    this.width = Math.max(1, width);
    this.height = Math.max(1, height);
    this.aspect = this.width / this.height;
    // A narrow view must not cut off what a wide one shows.
    this.fov = 2 * Math.atan(Math.tan((21 * Math.PI) / 180) * Math.max(1, 1.05 / this.aspect));
  }

  turn(dx, dy) {
    this.azimuth -= dx;
    this.polar = Math.min(Math.max(this.polar - dy, 0.04), Math.PI - 0.04);
  }

  // By pixels of the view, at the distance of the target.
  pan(dx, dy) {
    const { right, up } = this.basis;
    const scale = (2 * this.radius * Math.tan(this.fov / 2)) / this.height;
    this.target = this.target.map((value, i) => value - right[i] * dx * scale + up[i] * dy * scale);
  }

  zoom(factor) {
    this.radius = Math.min(Math.max(this.radius * factor, this.extent * 1e-3), this.extent * 60);
  }
}

// Mouse, touch and keys → an orbit. `handlers`: changed(), tap(x, y), hover(x, y, event) or hover(null), step(±1), reset().
function controlOrbit(canvas, orbit, handlers) {
  const pointers = new Map();
  let moved = 0;
  let panning = false;
  const TAP_PX = 6;

  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (pointers.size === 1) moved = 0;
    panning = event.button === 2 || event.button === 1 || event.shiftKey || event.ctrlKey;
    canvas.classList.add("dragging");
    handlers.hover(null);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") handlers.hover(event.offsetX, event.offsetY);
      return;
    }
    const now = [event.offsetX, event.offsetY];
    const [dx, dy] = [now[0] - before[0], now[1] - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (pointers.size === 1) {
      if (moved < TAP_PX) return;
      if (panning) orbit.pan(dx, dy);
      else orbit.turn((dx * Math.PI) / orbit.height, (dy * Math.PI) / orbit.height);
    } else if (pointers.size === 2) {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const spread = (place) => Math.max(12, Math.hypot(place[0] - other[0], place[1] - other[1]));
      orbit.zoom(spread(before) / spread(now));
      orbit.pan(dx / 2, dy / 2);
    }
    pointers.set(event.pointerId, now);
    handlers.changed();
  });
  const end = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    if (!pointers.size) canvas.classList.remove("dragging");
    if (event.type === "pointerup" && event.button === 0 && !pointers.size && moved < TAP_PX) {
      handlers.tap(event.offsetX, event.offsetY, event.pointerType === "touch");
    }
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => handlers.hover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 32 : 1;
    orbit.zoom(Math.exp(Math.min(Math.max(event.deltaY * lines, -240), 240) * 0.0016));
    handlers.changed();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "0" || event.key === "Home") {
      event.preventDefault();
      handlers.reset(); // a movement of its own, that `changed` would end
      return;
    }
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in arrows) {
      const [x, y] = arrows[event.key];
      if (event.shiftKey) orbit.pan(-40 * x, -40 * y);
      else orbit.turn(0.09 * -x, 0.07 * -y);
    } else if (event.key === "+" || event.key === "=") orbit.zoom(0.88);
    else if (event.key === "-" || event.key === "_") orbit.zoom(1 / 0.88);
    else if (event.key === "[" || event.key === "]") handlers.step(event.key === "]" ? 1 : -1);
    else if (event.key === "Escape") handlers.leave();
    else return;
    event.preventDefault();
    handlers.changed();
  });
}
