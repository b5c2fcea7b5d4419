"use strict";
// The scene through three.js. Throws where the browser has no WebGL.
function createWebGLDrawing(canvas) {
  THREE.ColorManagement.enabled = false; // photos and colours go to the screen as they are
  const renderer = new THREE.WebGLRenderer({ canvas, antialias: true, alpha: true, powerPreference: "low-power" });
  renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
  renderer.setClearColor(0x000000, 0);
  const scene = new THREE.Scene();
  const eye = new THREE.PerspectiveCamera(42, 1, 0.01, 1000);
  eye.matrixAutoUpdate = false;
  const rgb = (value) => new Float32Array(value.map((channel) => channel / 255));

  const pointsMaterial = new THREE.ShaderMaterial({
    transparent: true,
    uniforms: { size: { value: 3 }, strength: { value: 1.4 }, pixel: { value: 1 }, reference: { value: 1 }, dim: { value: 0 }, paper: { value: rgb([255, 255, 255]) } },
    vertexShader: `
      attribute vec3 tint;
      attribute float mark;
      uniform float size, strength, pixel, reference, dim;
      varying vec3 seen;
      varying float faded;
      void main() {
        vec4 place = modelViewMatrix * vec4(position, 1.0);
        gl_Position = projectionMatrix * place;
        float near = clamp(reference / max(-place.z, 1e-6), 0.5, 2.4);
        gl_PointSize = max(1.0, pixel * size * near * mix(1.0, mix(0.8, strength, mark), dim));
        seen = tint;
        faded = dim * (1.0 - mark);
        gl_Position.z = mix(gl_Position.z, 0.99999 * gl_Position.w, faded); // never before those that are marked
      }`,
    fragmentShader: `
      uniform vec3 paper;
      varying vec3 seen;
      varying float faded;
      void main() {
        float r = length(gl_PointCoord - 0.5) * 2.0;
        if (r > 1.0) discard;
        gl_FragColor = vec4(mix(seen, paper, 0.74 * faded), 1.0 - smoothstep(0.72, 1.0, r));
      }`,
  });
  const lineMaterial = () => new THREE.ShaderMaterial({
    transparent: true,
    depthWrite: false,
    uniforms: { size: { value: 1 } },
    vertexShader: `
      attribute vec3 offset;
      attribute vec4 tint;
      uniform float size;
      varying vec4 seen;
      void main() {
        seen = tint;
        gl_Position = projectionMatrix * modelViewMatrix * vec4(position + size * offset, 1.0);
      }`,
    fragmentShader: "varying vec4 seen; void main() { gl_FragColor = seen; }",
  });

  // Lines of a width in px: each is four corners, moved apart on the screen.
  const ribbonMaterial = (depthTest) => new THREE.ShaderMaterial({
    transparent: true,
    depthWrite: false,
    depthTest,
    side: THREE.DoubleSide,
    uniforms: { view: { value: new Float32Array([1, 1]) } },
    vertexShader: `
      attribute vec3 other;
      attribute float side, width;
      attribute vec4 tint;
      uniform vec2 view;
      varying vec4 seen;
      // What lies behind the eye is moved along the line to before it.
      vec4 before(vec4 place, vec4 far) {
        return place.w < 1e-5 && far.w > 1e-5 ? mix(place, far, (1e-5 - place.w) / (far.w - place.w)) : place;
      }
      void main() {
        seen = tint;
        vec4 a = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
        vec4 b = projectionMatrix * modelViewMatrix * vec4(other, 1.0);
        gl_Position = before(a, b);
        b = before(b, a);
        vec2 along = (b.xy / b.w - gl_Position.xy / gl_Position.w) * view;
        float size = length(along);
        along = size > 1e-6 ? along / size : vec2(1.0, 0.0);
        // Half a width beyond its end, so that no gap is left where two lines meet.
        gl_Position.xy += (side * vec2(-along.y, along.x) - along) * width / view * gl_Position.w;
      }`,
    fragmentShader: "varying vec4 seen; void main() { gl_FragColor = seen; }",
  });

  const make = (Kind, material, order) => {
    const object = new Kind(new THREE.BufferGeometry(), material);
    object.frustumCulled = false;
    object.renderOrder = order;
    scene.add(object);
    return object;
  };
  const ground = make(THREE.LineSegments, lineMaterial(), 0);
  const points = make(THREE.Points, pointsMaterial, 1);
  const frustums = make(THREE.LineSegments, lineMaterial(), 3);
  const rays = make(THREE.LineSegments, lineMaterial(), 4);
  const ribbons = { lines: make(THREE.Mesh, ribbonMaterial(true), 5), pose: make(THREE.Mesh, ribbonMaterial(false), 6) };
  const planes = new Map(); // camera → mesh
  let apexes = new Float32Array(0);
  let corners = new Float32Array(0);

  function lines(object, position, offset, tint) {
    object.geometry.dispose();
    object.geometry = new THREE.BufferGeometry();
    object.geometry.setAttribute("position", new THREE.BufferAttribute(position, 3));
    object.geometry.setAttribute("offset", new THREE.BufferAttribute(offset || new Float32Array(position.length), 3));
    object.geometry.setAttribute("tint", new THREE.BufferAttribute(tint, 4, true));
  }

  function removePlane(camera) {
    const mesh = planes.get(camera);
    scene.remove(mesh);
    mesh.geometry.dispose();
    if (mesh.material.map) mesh.material.map.dispose();
    mesh.material.dispose();
    planes.delete(camera);
  }

  return {
    kind: "webgl",
    resize(width, height, ratio) {
      renderer.setPixelRatio(ratio);
      renderer.setSize(width, height, false);
      pointsMaterial.uniforms.pixel.value = ratio;
    },
    setPoints(position, tint) {
      points.geometry.dispose();
      points.geometry = new THREE.BufferGeometry();
      points.geometry.setAttribute("position", new THREE.BufferAttribute(position, 3));
      points.geometry.setAttribute("tint", new THREE.BufferAttribute(tint, 3, true));
      points.geometry.setAttribute("mark", new THREE.BufferAttribute(new Uint8Array(position.length / 3), 1, true));
    },
    setTints(tint) {
      points.geometry.setAttribute("tint", new THREE.BufferAttribute(tint, 3, true));
    },
    // marks: 255 for what is chosen, drawn so many times as large; null where nothing is.
    setMarks(marks, strength) {
      pointsMaterial.uniforms.dim.value = marks ? 1 : 0;
      pointsMaterial.uniforms.strength.value = strength;
      if (marks) points.geometry.setAttribute("mark", new THREE.BufferAttribute(marks, 1, true));
    },
    // apex: 3 a camera. corner: 12 a camera, from the apex to the corners of its picture at depth 1.
    setCameras(apex, corner) {
      [apexes, corners] = [apex, corner];
      [...planes.keys()].forEach(removePlane);
    },
    // 4 bytes a camera
    setCameraTints(tint) {
      const numCameras = apexes.length / 3;
      const position = new Float32Array(numCameras * 48);
      const offset = new Float32Array(numCameras * 48);
      const colors = new Uint8Array(numCameras * 64);
      for (let c = 0; c < numCameras; c++) {
        for (let vertex = 0; vertex < 16; vertex++) {
          // Four edges from the apex, four around the picture.
          const corner = vertex < 8 ? (vertex % 2 ? vertex >> 1 : -1) : ((vertex - 8 + 1) >> 1) % 4;
          for (let k = 0; k < 3; k++) {
            position[c * 48 + vertex * 3 + k] = apexes[c * 3 + k];
            offset[c * 48 + vertex * 3 + k] = corner < 0 ? 0 : corners[c * 12 + corner * 3 + k];
          }
          colors.set(tint.subarray(c * 4, c * 4 + 4), c * 64 + vertex * 4);
        }
      }
      lines(frustums, position, offset, colors);
    },
    // [{camera, image, opacity}]: pictures to show in their frustums
    setPlanes(shown) {
      const wanted = new Set(shown.map((plane) => plane.camera));
      [...planes.keys()].filter((camera) => !wanted.has(camera)).forEach(removePlane);
      for (const { camera, image, opacity } of shown) {
        let mesh = planes.get(camera);
        if (!mesh) {
          const map = new THREE.Texture(image);
          map.needsUpdate = true;
          mesh = make(THREE.Mesh, new THREE.MeshBasicMaterial({ map, transparent: true, side: THREE.DoubleSide, toneMapped: false }), 2);
          mesh.geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(12), 3));
          mesh.geometry.setAttribute("uv", new THREE.BufferAttribute(new Float32Array([0, 1, 1, 1, 1, 0, 0, 0]), 2));
          mesh.geometry.setIndex([0, 2, 1, 0, 3, 2]);
          planes.set(camera, mesh);
        }
        mesh.material.opacity = opacity;
      }
    },
    setRays(position, tint) {
      lines(rays, position, null, tint);
    },
    // from, to: 3 numbers a line. tint: 4 bytes. width: px
    setRibbons(name, from, to, tint, width) {
      const num = width.length;
      const at = { position: new Float32Array(12 * num), other: new Float32Array(12 * num) };
      const [sides, widths, tints] = [new Float32Array(4 * num), new Float32Array(4 * num), new Uint8Array(16 * num)];
      const index = new Uint32Array(6 * num);
      for (let i = 0; i < num; i++) {
        for (let corner = 0; corner < 4; corner++) {
          const [own, far] = corner < 2 ? [from, to] : [to, from];
          for (let k = 0; k < 3; k++) {
            at.position[12 * i + 3 * corner + k] = own[3 * i + k];
            at.other[12 * i + 3 * corner + k] = far[3 * i + k];
          }
          sides[4 * i + corner] = corner % 2 ? 1 : -1;
          widths[4 * i + corner] = width[i];
          tints.set(tint.subarray(4 * i, 4 * i + 4), 16 * i + 4 * corner);
        }
        // Seen from its own end each side is the other one's opposite: 0 and 3 lie on one edge.
        index.set([0, 1, 2, 0, 2, 3].map((corner) => 4 * i + corner), 6 * i);
      }
      const mesh = ribbons[name];
      mesh.geometry.dispose();
      mesh.geometry = new THREE.BufferGeometry();
      const set = (key, values, size, normalized = false) => mesh.geometry.setAttribute(key, new THREE.BufferAttribute(values, size, normalized));
      set("position", at.position, 3);
      set("other", at.other, 3);
      set("side", sides, 1);
      set("width", widths, 1);
      set("tint", tints, 4, true);
      mesh.geometry.setIndex(new THREE.BufferAttribute(index, 1));
    },
    setGround(position, tint) {
      lines(ground, position, null, tint);
    },
    draw(orbit, style) {
      const { right, up, back, eye: place } = orbit.basis;
      const near = Math.max(orbit.radius * 0.01, orbit.extent * 1e-4);
      eye.fov = (orbit.fov * 180) / Math.PI;
      eye.aspect = orbit.aspect;
      eye.near = near;
      eye.far = orbit.radius * 2 + orbit.extent * 400;
      eye.updateProjectionMatrix();
      eye.matrix.set(right[0], up[0], back[0], place[0], right[1], up[1], back[1], place[1], right[2], up[2], back[2], place[2], 0, 0, 0, 1);
      eye.matrixWorldNeedsUpdate = true;
      pointsMaterial.uniforms.size.value = style.pointSize;
      pointsMaterial.uniforms.reference.value = style.reference;
      pointsMaterial.uniforms.paper.value = rgb(style.paper);
      frustums.material.uniforms.size.value = style.cameraSize;
      for (const mesh of Object.values(ribbons)) mesh.material.uniforms.view.value = new Float32Array([orbit.width, orbit.height]);
      ribbons.lines.visible = style.showLines;
      for (const [camera, mesh] of planes) {
        const position = mesh.geometry.attributes.position;
        for (let k = 0; k < 12; k++) position.array[k] = apexes[camera * 3 + (k % 3)] + style.cameraSize * corners[camera * 12 + k];
        position.needsUpdate = true;
        mesh.visible = style.showPhotos && style.showCameras;
      }
      points.visible = style.showPoints;
      frustums.visible = style.showCameras;
      ground.visible = style.showGround;
      renderer.render(scene, eye);
    },
  };
}
