// What another threshold would change, before the server has answered: decisions that would flip are outlined, what
// follows the first is dimmed as not yet true, and the nearest thresholds that change the text can be jumped to.

const authorAt = (score, threshold) => (score < threshold ? LLM : SLM);   // as `role_at` in the engine

const preview = (threshold) => {
  if (foreign || !over() || Number.isNaN(threshold)) return;
  let flips = 0, first = -1;
  spans.forEach((span, i) => {
    const token = tokens[i];
    const flip = token[SCORE] !== null && !token[FORCED] && authorAt(token[SCORE], threshold) !== token[AUTHOR];
    if (flip) { flips++; if (first < 0) first = i; }
    span.classList.toggle('flip', flip);
    span.classList.toggle('stale', first >= 0 && i > first);
  });
  previewLine.classList.toggle('changes', flips > 0);
  previewLine.textContent = flips === 0 ? (tokens.length ? 'Same text at this threshold' : '')
    : `${flips} ${flips === 1 ? 'decision' : 'decisions'} would flip, the first at token ${first + 1}`;
};

let wanted = null;
document.addEventListener('input', (event) => {
  if (!element.isConnected || !event.target.closest?.('#threshold')) return;
  const first = wanted === null;
  wanted = Number.parseFloat(event.target.value);
  if (first) requestAnimationFrame(() => { const value = wanted; wanted = null; preview(value); });
});

// The slider is moved as a hand moves it, so that everything that follows a hand follows this too.
const turnTo = (threshold) => {
  const range = slider();
  range.value = threshold;
  range.dispatchEvent(new Event('input', { bubbles: true }));
};

// The slider's nearest steps below and above which another text begins: (low, high] gives the same one.
const nextChanges = () => {
  let low = -Infinity, high = Infinity;
  for (const token of tokens) {
    if (token[SCORE] === null || token[FORCED]) continue;
    if (token[AUTHOR] === LLM) low = Math.max(low, token[SCORE]);
    else high = Math.min(high, token[SCORE]);
  }
  const range = slider(), step = Number(range?.step) || 0.001, steps = Math.round(1 / step);
  const down = Math.floor(low * steps + 1e-9) / steps;
  const up = (Math.floor(high * steps + 1e-9) + 1) / steps;
  return [Number.isFinite(low) && down >= 0 ? down : null, Number.isFinite(high) && up <= Number(range?.max) ? up : null];
};

const changeButtons = [find('[data-change="-1"]'), find('[data-change="1"]')];
const drawChanges = () => {
  const [down, up] = over() && tokens.length && (foreign || !latest.fixed) ? nextChanges() : [null, null];
  for (const [button, value] of [[changeButtons[0], down], [changeButtons[1], up]]) {
    button.disabled = value === null;
    button.value = value ?? '';
    button.querySelector('span').textContent = value === null ? '–' : value.toFixed(4);
  }
};
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-change]');
  if (button && button.value !== '') turnTo(Number(button.value));
});
