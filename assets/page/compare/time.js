// The time that the texts share, and the player that moves along it.
import { finder, say } from '../lib/dom.js';
import { seconds } from '../lib/format.js';
import { startFilm } from './film.js';

export const startTime = ({ element }, columns) => {
  const part = (name) => finder(element)(`.compare-${name}`), [scrub, play, pace, clock] = ['scrub', 'play', 'pace', 'clock'].map(part);
  let at = Infinity;   // seconds up to which tokens are shown
  let over = false, frame = null;

  const film = startFilm(part('film'), element, () => columns.map((column) => ({ title: column.title, tokens: column.tokens.slice(0, column.counts()) })));
  const end = () => Math.max(...columns.map((column) => column.end));

  const moveTo = (time) => {
    const last = end(), now = Math.min(time, last), text = last > 0 ? `${seconds(now)} of ${seconds(last)}` : '–';
    at = time >= last ? Infinity : time;
    for (const column of columns) column.showUntil(at, over);
    scrub.disabled = play.disabled = !(over && last > 0);
    film(over && last > 0);
    scrub.value = last > 0 ? Math.round((1000 * now) / last) : 1000;
    scrub.setAttribute('aria-valuetext', text);
    say(clock, text);
  };

  const pause = () => {
    cancelAnimationFrame(frame);
    frame = null;
    say(play, 'Play');
  };
  const run = () => {
    let before = null;
    const tick = (stamp) => {
      moveTo(at + ((stamp - (before ?? stamp)) / 1000) * Number(pace.value));
      if (at === Infinity || !element.isConnected) return pause();
      before = stamp;
      frame = requestAnimationFrame(tick);
    };
    if (at === Infinity) moveTo(0);
    say(play, 'Pause');
    frame = requestAnimationFrame(tick);
  };
  play.addEventListener('click', () => (frame === null ? run() : pause()));
  scrub.addEventListener('input', () => {
    pause();
    moveTo((end() * scrub.value) / 1000);
  });

  return {
    draw(isOver) {
      over = isOver;
      moveTo(at);
    },
    reset() {
      pause();
      at = Infinity;
    },
    play: run,
    film: () => part('film').click(),
  };
};
