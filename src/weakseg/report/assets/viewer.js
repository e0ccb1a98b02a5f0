"use strict";
// Image, truth, map and mask of a case as layers of NiiVue. The mask is the map again, seen from the threshold on.
(() => {
  const { cases, maps } = JSON.parse(document.getElementById("volumes").textContent);
  const at = (name) => document.getElementById(`v-${name}`);
  const canvas = document.getElementById("gl"), message = at("message");
  const LAYERS = ["image", "truth", "map", "mask"];
  const VIEWS = { slice: "slices", sequence: "sequences", volume: "volumes", supervised: "reference" };
  const flat = (r, g, b) => ({ R: [0, r], G: [0, g], B: [0, b], A: [0, 255], I: [0, 255] });
  let viewer = null, shown = null, size = [1, 1, 1], turn = 0;

  const options = (select, entries, keep) => {
    select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    if (entries.some(([value]) => value === keep)) select.value = keep;
  };
  const unique = (values) => [...new Set(values)];
  const methodOf = (one) => JSON.stringify([one.view, one.gate, one.method]);
  const ofData = () => maps.filter((one) => one.dataset === at("data").value);
  const ofMethod = () => ofData().filter((one) => methodOf(one) === at("method").value);
  const caseOf = (one) => cases.find((other) => other.dataset === one.dataset && other.case === one.case);

  const chooseData = () => {
    const found = ofData(), names = unique(found.map(methodOf));
    const text = (id) => { const one = found.find((other) => methodOf(other) === id); return `${one.title} (${VIEWS[one.view] ?? one.view})`; };
    options(at("method"), names.map((id) => [id, text(id)]).sort((a, b) => a[1].localeCompare(b[1])), at("method").value);
    chooseMethod();
  };
  // A case is kept when the method changes, if there is a map of it: so methods can be compared.
  const chooseMethod = () => {
    const found = ofMethod().sort((a, b) => a.dice - b.dice);
    options(at("case"), found.map((one) => [one.case, `${one.case}: Dice ${one.dice.toFixed(3)}${one.place ? `, ${one.place}` : ""}`]), at("case").value);
    show();
  };

  const load = (base64, colormap, opacity, low, high) => niivue.NVImage.loadFromBase64({
    base64, name: "volume.nii.gz", colormap, opacity, cal_min: low, cal_max: high, trustCalMinMax: false });

  async function show() {
    if (!viewer) return;
    const one = ofMethod().find((other) => other.case === at("case").value), mine = ++turn;
    const of = caseOf(one), same = shown && shown.of === of;
    if (!shown || shown.one !== one) at("cut").value = one.cut;
    const loaded = await Promise.all([
      load(of.image, "gray", 1, 0, 255), load(of.truth, "truth", 0.5, 0, 1),
      load(one.map, "inferno", 0.7, 1, 255), load(one.map, "mask", 0.5, 0, 1)]);
    if (mine !== turn) return;  // another choice was made meanwhile
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[viewer.volumes.length - 1]);
    for (const volume of loaded) viewer.addVolume(volume);
    shown = { one, of };
    size = viewer.volumes[0].hdr.dims.slice(1, 4);
    if (!same) viewer.scene.crosshairPos = middle(of, loaded[1]);
    ["x", "y", "z"].forEach((axis, place) => { at(axis).max = size[place] - 1; });
    paint();
    const where = of.step > 1 ? `, thinned to every ${of.step}. voxel` : "";
    at("said").textContent = `${of.dataset} (${of.source}), ${of.case}, ${of.channel}${where}; lesion ${of.lesion_ml} ml. ${one.title}, cut at ${one.point}: Dice ${one.dice.toFixed(3)}.`;
    canvas.dataset.shown = `${one.dataset} ${methodOf(one)} ${one.case}`;
  }

  // The middle of the slices with most truth, as shares of the volume.
  function middle(of, truth) {
    const [nx, ny, nz] = truth.hdr.dims.slice(1, 4), counts = [new Float64Array(nx), new Float64Array(ny), new Float64Array(nz)];
    truth.img.forEach((inside, place) => {
      if (!inside) return;
      counts[0][place % nx]++; counts[1][Math.floor(place / nx) % ny]++; counts[2][Math.floor(place / (nx * ny))]++;
    });
    const most = counts.map((of_axis) => of_axis.indexOf(Math.max(...of_axis)));
    return counts.every((of_axis) => Math.max(...of_axis) === 0) ? [0.5, 0.5, 0.5] : viewer.vox2frac(most, 0);
  }

  function paint() {
    if (!shown || !viewer) return;
    const [image, truth, map, mask] = viewer.volumes, cut = Number(at("cut").value);
    const opacity = (name) => (at(name).checked ? Number(at(`${name}-opacity`).value) / 100 : 0);
    image.opacity = at("image").checked ? 1 : 0;
    [image.cal_min, image.cal_max] = [Number(at("low").value), Math.max(Number(at("low").value) + 1, Number(at("high").value))];
    [truth.opacity, truth.cal_min, truth.cal_max] = [opacity("truth"), 0, 1];
    [map.opacity, map.cal_min, map.cal_max] = [opacity("map"), 0, 255];
    // Bytes above the cut are the mask; there are none between the cut and the next.
    [mask.opacity, mask.cal_min, mask.cal_max] = [opacity("mask"), cut, cut + 1];
    viewer.updateGLVolume();
    follow();
  }

  function follow() {
    const voxel = viewer.frac2vox(viewer.scene.crosshairPos);
    ["x", "y", "z"].forEach((axis, place) => { at(axis).value = voxel[place]; });
  }

  function move(x, y, z) {
    viewer.moveCrosshairInVox(x, y, z);
    follow();
  }

  const next = (select, then) => { select.selectedIndex = (select.selectedIndex + 1) % select.length; then(); };
  const KEYS = {
    ArrowLeft: () => move(-1, 0, 0), ArrowRight: () => move(1, 0, 0), ArrowDown: () => move(0, -1, 0), ArrowUp: () => move(0, 1, 0),
    PageDown: () => move(0, 0, -1), PageUp: () => move(0, 0, 1), n: () => next(at("method"), chooseMethod), c: () => next(at("case"), show),
    i: () => at("image").click(), t: () => at("truth").click(), m: () => at("map").click(), k: () => at("mask").click() };
  // Before NiiVue's own keys, which do other things.
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? null : KEYS[event.key];
    if (event.key !== "Tab") event.stopImmediatePropagation();
    if (!act || !viewer) return;
    event.preventDefault();
    act();
  }, true);

  at("data").addEventListener("change", chooseData);
  at("method").addEventListener("change", chooseMethod);
  at("case").addEventListener("change", show);
  at("plane").addEventListener("change", () => viewer?.setSliceType(Number(at("plane").value)));
  for (const name of [...LAYERS, "low", "high", "truth-opacity", "map-opacity", "mask-opacity", "cut"]) at(name).addEventListener("input", paint);
  ["x", "y", "z"].forEach((axis, place) => at(axis).addEventListener("input", () => {
    const voxel = viewer.frac2vox(viewer.scene.crosshairPos), by = [0, 0, 0];
    by[place] = Number(at(axis).value) - voxel[place];
    move(...by);
  }));
  options(at("data"), unique(maps.map((one) => one.dataset)).map((name) => [name, name]));
  chooseData();

  // The library is large: it is not run before somebody comes to look.
  function run(id) {
    const script = document.createElement("script");
    script.textContent = document.getElementById(id).textContent;
    document.body.append(script);
  }

  async function start() {
    message.textContent = "The viewer is starting …";
    await new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)));
    try {
      run("niivue");
      if (!canvas.getContext("webgl2")) throw new Error("this browser has no WebGL 2");
      viewer = new niivue.Niivue({ backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 1, 0.5], crosshairWidth: 0.3, crosshairWidthUnit: "percent", show3Dcrosshair: false,
        isRadiologicalConvention: true, multiplanarShowRender: 0, dragAndDropEnabled: false, isResizeCanvas: true, logLevel: "error" });
      await viewer.attachToCanvas(canvas);
      viewer.addColormap("truth", flat(0, 200, 145));
      viewer.addColormap("mask", flat(255, 120, 200));
      viewer.setInterpolation(true);  // voxels as they are
      viewer.setSliceType(3);
      viewer.onLocationChange = follow;
      message.textContent = "";
      await show();
    } catch (error) {
      viewer = null;
      message.textContent = `The viewer cannot start: ${error.message}.`;
    }
  }
  new IntersectionObserver((entries, observer) => {
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); start(); }
  }, { rootMargin: "200px" }).observe(canvas);
})();
