// Four handles on one place of the curve: threshold, LLM share, cost budget, cost weight λ. A hand moves one, the others
// follow along the measured curve; the one in the hand keeps what it was given while the curve grows under it.
const handles = Object.fromEntries([...element.querySelectorAll('[data-handle]')].map((node) => [node.dataset.handle,
  { range: node.querySelector('[type="range"]'), number: node.querySelector('[type="number"]') }]));

// Per handle: where a value leads to, which value a place has, and how the value stands on the range.
// Measured thresholds are evenly spaced on theirs, for they crowd just below 1; λ's is cubic, for small ones matter most.
const KINDS = {
  threshold: {
    place: (points, value) => atThreshold(points, value), value: (points, place) => shortThreshold(valuesAt(points, place)[THRESHOLD]),
    range: (points, value) => [atThreshold(points, value), points.length - 1], read: (points, at) => valuesAt(points, at)[THRESHOLD],
  },
  share: {
    place: (points, value) => atShare(points, value / 100), value: (points, place) => Number((100 * valuesAt(points, place)[SHARE]).toFixed(1)),
    range: (points, value) => [value, 100], read: (points, at) => at,
  },
  budget: {
    place: (points, value, unit) => atBudget(points, value / 100, unit),
    value: (points, place, unit) => Number((100 * relative(points, valuesAt(points, place), unit)).toFixed(1)),
    range: (points, value, unit) => [value, Math.max(100, ...points.map((point) => Math.ceil(100 * relative(points, point, unit))))],
    read: (points, at) => at,
  },
  weight: {
    place: (points, value, unit) => atWeight(points, value, unit), value: (points, place, unit) => Number(weightAt(points, place, unit).toPrecision(3)),
    range: (points, value, unit) => [1000 * Math.cbrt(value / mostWeight(points, unit)), 1000],
    read: (points, at, unit) => Number((mostWeight(points, unit) * (at / 1000) ** 3).toPrecision(3)),
  },
};
const mostWeight = (points, unit) => 1.25 * corners(points, unit)[0].weight || 1;

let hand = null;   // { name, value }: what a hand asked for last
const placeInHand = (points, unit) => (hand === null ? cheapestWithin(points, 0.02, unit) : KINDS[hand.name].place(points, hand.value, unit));

const drawHandles = (points, unit, place) => {
  for (const [name, { range, number }] of Object.entries(handles)) {
    const value = hand?.name === name ? hand.value : KINDS[name].value(points, place, unit);
    const [at, most] = KINDS[name].range(points, value, unit), within = Math.max(0, Math.min(most, at));
    range.max = most;
    if (document.activeElement !== range || hand?.name !== name) range.value = within;
    range.style.setProperty('--filled', most > 0 ? within / most : 0);
    range.setAttribute('aria-valuetext', `${value}${name === 'share' || name === 'budget' ? ' %' : ''}`);
    if (document.activeElement !== number || hand?.name !== name) number.value = value;
  }
};

// Calls `moved` after a hand has moved a handle; `state()` gives the points and the unit.
const listenToHandles = (state, moved) => {
  for (const [name, { range, number }] of Object.entries(handles)) {
    const take = (value) => {
      if (!Number.isFinite(value) || value < 0) return;   // a number's box is being typed in
      hand = { name, value };
      moved();
    };
    range.addEventListener('input', () => {
      const { points, unit } = state();
      const value = KINDS[name].read(points, Number(range.value), unit);
      take(name === 'threshold' ? shortThreshold(value) : value);
    });
    number.addEventListener('input', () => take(number.value === '' ? NaN : Number(number.value)));
  }
};
