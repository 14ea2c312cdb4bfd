// The address decides what is shown.
function follow() {
  // The link that skips the overview is no filter.
  if (location.hash === "#samples") return;
  const { row: id, filter } = readHash();
  const other = hashOf(filter) !== hashOf(state.filter);
  if (other) applyFilter(filter);
  if (id !== null) return openSample(id);
  closeSample();
  if (other) document.getElementById("samples").scrollIntoView();
}

drawHead();
drawOverview();
drawControls();
applyFilter({});
window.addEventListener("hashchange", follow);
follow();
