// A measured curve and the places on it, as `engine.operating_points.Curve` reads it: straight lines between measured
// points, both ends beyond them. A place is a point's number, with the fraction of the way to the next. Pure functions.
export const [THRESHOLD, QUALITY, LOW, HIGH, SHARE, BYTES, FLOPS, SECONDS] = Array(8).keys();   // of a point
export const UNITS = { bytes: BYTES, flops: FLOPS, seconds: SECONDS };

const start = (point) => Math.min(point[THRESHOLD], 1);   // no score is above 1, so LLM-only begins right there

// Whether the costs of all points are known in a unit: one cannot compare the seconds of different machines.
export const measuredIn = (points, unit) => unit in UNITS && points.every((point) => point[UNITS[unit]] !== null);

// The values at a place.
export const valuesAt = (points, place) => {
  const before = Math.floor(place), part = place - before, [a, b] = points.slice(before);
  if (part === 0) return a;
  const mix = (from, to) => from * (1 - part) + to * part;
  return a.map((value, i) => (i === THRESHOLD ? mix(start(a), start(b)) : value === null ? null : mix(value, b[i])));
};

// The place of a column's value, the first on the way up; beyond the highest it is the last point.
const placeOf = (points, wanted, value) => {
  const after = points.findIndex((point) => value(point) >= wanted);
  if (after === 0) return 0;
  if (after < 0) return points.length - 1;
  const [a, b] = [value(points[after - 1]), value(points[after])];
  return after - 1 + (wanted - a) / (b - a);
};
export const atThreshold = (points, threshold) => (threshold > 1 ? points.length - 1 : placeOf(points, threshold, start));
export const atShare = (points, share) => placeOf(points, share, (point) => point[SHARE]);

// Cost as a share of LLM-only's.
export const relative = (points, point, unit) => point[UNITS[unit]] / (points.at(-1)[UNITS[unit]] || 1);

// The best that a budget buys, in shares of LLM-only's cost; of equally good places the cheapest. Along a line quality and
// cost are linear, so it is a measured point or a place where the line crosses the budget.
export const atBudget = (points, budget, unit) => {
  const costs = points.map((point) => relative(points, point, unit));
  const places = costs.flatMap((cost, i) => {
    const next = costs[i + 1] ?? cost, crosses = (cost - budget) * (next - budget) < 0;
    return [...(cost <= budget + 1e-9 ? [i] : []), ...(crosses ? [i + (budget - cost) / (next - cost)] : [])];
  });
  const cheapest = costs.indexOf(Math.min(...costs));
  return places.reduce((best, place) => {
    const [a, b] = [valuesAt(points, place), valuesAt(points, best)], gain = a[QUALITY] - b[QUALITY];
    const saves = relative(points, a, unit) < relative(points, b, unit);
    return gain > 1e-12 || (gain > -1e-12 && saves) ? place : best;
  }, cheapest);
};

// The measured point that maximises quality − λ · cost / cost of LLM-only; of equal ones the cheapest.
export const atWeight = (points, weight, unit) => {
  const cost = (i) => relative(points, points[i], unit), worth = (i) => points[i][QUALITY] - weight * cost(i);
  const better = (i, best) => worth(i) > worth(best) || (worth(i) === worth(best) && cost(i) < cost(best));
  return [...points.keys()].reduce((best, i) => (better(i, best) ? i : best));
};

// The cheapest measured point whose quality is at most so much below the LLM's; of equally cheap ones the better.
export const cheapestWithin = (points, below, unit) => {
  const enough = points.at(-1)[QUALITY] - below - 1e-9, cost = (i) => points[i][UNITS[unit]];
  const better = (i, best) => cost(i) < cost(best) || (cost(i) === cost(best) && points[i][QUALITY] > points[best][QUALITY]);
  return [...points.keys()].filter((i) => points[i][QUALITY] >= enough).reduce((best, i) => (better(i, best) ? i : best));
};

// Points that are best for some λ, cheapest first, each with the λ from which on it is: { place, cost, weight }.
export const corners = (points, unit) => {
  const all = points.map((point, place) => ({ place, cost: relative(points, point, unit), quality: point[QUALITY] }));
  const hull = [], slope = (a, b) => (b.quality - a.quality) / (b.cost - a.cost);
  for (const point of all.sort((a, b) => a.cost - b.cost || b.quality - a.quality)) {
    if (hull.length && point.quality <= hull.at(-1).quality) continue;   // dearer and no better
    while (hull.length > 1 && slope(hull.at(-2), hull.at(-1)) <= slope(hull.at(-1), point)) hull.pop();
    hull.push(point);
  }
  return hull.map((point, i) => ({ ...point, weight: i + 1 < hull.length ? slope(point, hull[i + 1]) : 0 }));
};

// The λ that goes with a place: in the middle of those for which it is best, else that of the nearest best points.
export const weightAt = (points, place, unit) => {
  const hull = corners(points, unit), cost = relative(points, valuesAt(points, place), unit);
  const i = hull.findIndex((corner) => corner.place === place);
  if (i > 0) return (hull[i].weight + hull[i - 1].weight) / 2;
  if (i === 0) return hull.length > 1 ? 1.1 * hull[0].weight : 0;
  const after = hull.findIndex((corner) => corner.cost > cost);
  return after < 0 ? 0 : hull[Math.max(0, after - 1)].weight;
};

// A threshold to three digits of its distance from 0 and 1, as the server rounds those it measures.
export const shortThreshold = (threshold) => {
  const distance = Math.min(threshold, 1 - threshold);
  const digits = distance <= 0 ? 2 : Math.min(9, Math.max(3, 2 - Math.floor(Math.log10(distance))));
  return Number(threshold.toFixed(digits));
};
