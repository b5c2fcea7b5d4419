// What the page uses of three.js; esbuild leaves out the rest.
export {
  BufferAttribute,
  BufferGeometry,
  ColorManagement,
  DoubleSide,
  LinearSRGBColorSpace,
  LineSegments,
  Mesh,
  MeshBasicMaterial,
  PerspectiveCamera,
  Points,
  Scene,
  ShaderMaterial,
  Texture,
  WebGLRenderer,
} from "three";
