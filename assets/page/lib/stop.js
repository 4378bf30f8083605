// Stop stands in the place of what starts a text: from the click on, and for as long as the server says that something is written.
const STOPS = { stream: 'stop', sweep: 'stop', comparison: 'compare-stop', 'tune-panel': 'tune-stop' };
const STARTS = { generate: 'stop', 'compare-start': 'compare-stop', 'tune-run': 'tune-stop' };
const asked = new Set(), writing = new Set();   // buttons of what was asked for, of which nothing came yet; panels that grow

const draw = () => {
  const shown = new Set([...asked, ...[...writing].map((panel) => STOPS[panel])]);
  for (const id of new Set(Object.values(STOPS))) document.body.classList.toggle(`has-${id}`, shown.has(id));
};

export const isWriting = () => asked.size + writing.size > 0;

document.addEventListener('click', ({ target }) => {
  const id = STARTS[target.closest?.('button')?.id];
  if (!id) return;
  asked.add(id);
  draw();
  document.dispatchEvent(new CustomEvent('citer-start'));
});
document.addEventListener('citer-refused', () => { asked.clear(); draw(); });
document.addEventListener('citer-state', ({ detail: { panel, active } }) => {
  asked.delete(STOPS[panel]);
  if (active) writing.add(panel); else writing.delete(panel);
  draw();
});
