// What the acceptance does, in words, and a line where the dials' setting costs more than the LLM alone, so that it is said
// before it is chosen. A text that was written here with these dials says its own cost. Without one, what was measured on other
// texts is said, and on which, whatever text is on the page.
import { follow } from '../lib/channel.js';
import { shortThreshold } from '../lib/curve.js';
import { dialAt, finder, listen, onSlider, onUnit, say, unitChosen } from '../lib/dom.js';
import { startCommit } from './commit.js';

const DEAR = 1.1, SAME_DIALS = 0.02;   // × LLM-only; settings that are no farther apart, both dials together, count as one

const short = (times) => String(Number(times.toFixed(2)));
const asMeasured = ({ task, acceptance, threshold, times, unit, timed }) => (
  `${timed ? 'Timed' : 'Measured'} on ${task} at acceptance ${acceptance}, threshold ${shortThreshold(threshold)}: ${short(times)} × the LLM alone in ${unit}.`);

const meaning = (acceptance) => (acceptance === 0 ? 'The LLM does not look at what the SLM drafts.'
  : acceptance === 1 ? 'A drafted token stays if it is the LLM’s own choice: the LLM’s text, near ties apart.'
    : `A drafted token stays if the LLM finds it at least ${acceptance} × as likely as its own choice.`);

export const start = ({ element, props, trigger, watch }) => {
  startCommit({ element, trigger });
  const find = finder(element), line = find('.cost-warning');
  let top = null, policy = null;   // what a threshold above every score costs at least, and what scores
  let tried = [];   // what texts that were written here cost, with their settings
  let measured = [];   // what the settings nearest to the dials cost on each measured task

  const draw = () => {
    const [threshold, acceptance, unit] = [dialAt('threshold'), dialAt('acceptance'), unitChosen()];
    const near = (setting) => Math.abs(setting.threshold - threshold) + Math.abs(setting.acceptance - acceptance) < SAME_DIALS;
    const isOwn = (setting) => setting.unit === unit && setting.policy === policy && near(setting);
    const own = tried.findLast(isOwn)?.times ?? null;
    say(find('.acceptance-means'), meaning(acceptance));
    const along = threshold >= 1 && top?.policies.includes(policy) ? top.times[unit] ?? 0 : 0;
    const dear = own === null ? measured.find(({ times }) => times > DEAR) : undefined;
    line.hidden = Math.max(own, along) <= DEAR && !dear;
    line.classList.toggle('aside', Math.max(own, along) <= DEAR && dear?.shown === false);   // about another task than the one that is read
    say(line, line.hidden ? '' : own > DEAR ? `With these dials a text here cost ${short(own)} × the LLM alone.`
      : along > DEAR ? `The LLM writes all, and the SLM reads along to score it: at least ${short(along)} × the LLM alone (modelled).` : asMeasured(dear));
  };

  listen(element, 'citer-cost', ({ detail: { cost, unit } }) => {
    if (cost === null) return;   // the dials were turned while it was written, or the models here did not write it
    tried = [...tried.slice(-50), { ...cost, unit }];
    draw();
  });
  listen(element, 'citer-measured', ({ detail }) => { measured = detail; draw(); });
  listen(element, 'citer-dials', ({ detail }) => { policy = detail.policy; draw(); });
  onUnit(element, draw);
  for (const dial of ['threshold', 'acceptance']) onSlider(element, draw, dial);
  follow({ props, watch }, (message) => {
    top = message;
    policy ??= message?.policy ?? null;
    draw();
  });
  document.dispatchEvent(new CustomEvent('citer-measured-wanted'));   // it may have been said before anything listened here
};
