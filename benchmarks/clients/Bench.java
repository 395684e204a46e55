import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.nio.file.Files;
import java.nio.file.Paths;

/** java Bench PHOTO WIDTH HEIGHT SIZE RULE FILTER ORIENTATION TIMES: milliseconds of one core a photo, a line each. */
public final class Bench {
  public static void main(String[] arguments) throws Exception {
    byte[] data = Files.readAllBytes(Paths.get(arguments[0]));
    int width = Integer.parseInt(arguments[1]);
    int height = Integer.parseInt(arguments[2]);
    int size = Integer.parseInt(arguments[3]);
    Preprocess preprocess = new Preprocess(size, size, arguments[4], arguments[5], true, "full", "13.0");
    ThreadMXBean threads = ManagementFactory.getThreadMXBean();
    for (int i = 0; i < Integer.parseInt(arguments[7]); i++) {
      long begin = threads.getCurrentThreadCpuTime();
      preprocess.apply(Preprocess.Picture.of(data, width, height).oriented(Integer.parseInt(arguments[6])));
      System.out.println((threads.getCurrentThreadCpuTime() - begin) / 1e6);
    }
  }
}
