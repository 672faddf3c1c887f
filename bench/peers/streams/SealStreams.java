import com.amazon.corretto.crypto.provider.AmazonCorrettoCryptoProvider;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Signature;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The common work on Kafka Streams: Processor API, exactly_once_v2, one thread, Ed25519 by Corretto's native provider.
 *
 * <p>The head of a chain is in a cached, logged state store, so it commits with the records and the offsets. A processor does
 * not see where its transaction ends; so the first record of a chain in each commit interval is signed instead of the last.
 * A record that fails a check stops the application: the benchmark's input has none.
 */
public final class SealStreams {
  private static final HexFormat HEX = HexFormat.of();

  private SealStreams() {}

  public static void main(String[] arguments) throws Exception {
    JsonNode task = new ObjectMapper().readTree(Path.of(arguments[0]).toFile());
    Topology topology = new Topology();
    topology.addSource("raw", new ByteArrayDeserializer(), new ByteArrayDeserializer(), task.get("raw").asText());
    topology.addProcessor("seal", () -> new Seal(task), "raw");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore("heads"), Serdes.Integer(), Serdes.ByteArray())
            .withCachingEnabled(),
        "seal");
    for (String output : List.of("archive", "hot", "siem")) {
      topology.addSink(output, task.get(output).asText(), new ByteArraySerializer(), new ByteArraySerializer(), "seal");
    }
    KafkaStreams streams = new KafkaStreams(topology, settings(task));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static Properties settings(JsonNode task) {
    Properties made = new Properties();
    made.put(StreamsConfig.APPLICATION_ID_CONFIG, task.get("name").asText());
    made.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.get("bootstrap").asText());
    made.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    made.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, task.get("commit_ms").asLong());
    made.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    made.put(StreamsConfig.STATE_DIR_CONFIG, task.get("state").asText());
    made.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    made.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
    made.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 262_144);
    made.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    made.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 2000);
    made.put("security.protocol", "SSL");
    made.put("ssl.keystore.type", "PEM");
    made.put("ssl.keystore.location", task.get("keystore").asText());
    made.put("ssl.truststore.type", "PEM");
    made.put("ssl.truststore.location", task.get("ca").asText());
    return made;
  }

  /** What the class policy says of an event. Routes: archive 1, hot 2, siem 4. The number is the class's in the seal's enum. */
  private record Decision(int logClass, boolean sign, int routes) {}

  /** The class policy's rules in their order, as bench/peers/work.py states them. */
  private static final class Rules {
    private static final int SECURITY = 0;
    private static final int OPERATIONAL = 1;
    private static final int COMPLIANCE = 2;
    private static final int ADMIN = 3;
    private static final int DEBUG = 4;
    private static final String[] CHANGES = {
      "github.branch_protection", "github.deploy_key", "github.deployment", "github.github_app_authorization",
      "github.installation", "github.member", "github.meta", "github.org_block", "github.organization",
      "github.personal_access_token", "github.public", "github.repository.", "github.repository_ruleset",
      "github.security_and_analysis", "github.team"
    };
    private static final String[] ALERTS = {
      "github.code_scanning_alert", "github.dependabot_alert", "github.repository_advisory",
      "github.repository_vulnerability_alert", "github.secret_scanning_alert", "github.security_advisory"
    };
    private static final String[] ROUTINE = {"github.workflow_", "github.check_"};

    static Decision decide(String tenant, String name, String type, String result, String decision) {
      if (tenant.equals("@deployment") && name.startsWith("emitter.")) return new Decision(OPERATIONAL, false, 3);
      if ((type.equals("ADMIN") || type.equals("DEPLOYMENT") || starts(name, CHANGES)) && !starts(name, ROUTINE)) {
        return new Decision(ADMIN, true, 7);
      }
      switch (type) {
        case "POLICY":
          return new Decision(SECURITY, true, 7);
        case "EXPORT", "RETENTION", "HOLD", "ERASURE":
          return new Decision(COMPLIANCE, true, 7);
        case "DETECTION", "RESPONSE":
          return new Decision(SECURITY, true, 7);
        case "AUTHENTICATION":
          return new Decision(SECURITY, false, 7);
        default:
      }
      if (result.equals("DENIED") || decision.equals("DENY")) return new Decision(SECURITY, false, 7);
      if (type.equals("ACCESS")) return new Decision(SECURITY, false, 3);
      if (type.equals("REVIEW")) return new Decision(COMPLIANCE, false, 3);
      if (starts(name, ALERTS)) return new Decision(SECURITY, false, 7);
      if (name.contains(".connector.")) return new Decision(OPERATIONAL, false, 7);
      if (type.equals("OTHER") && name.contains(".debug.")) return new Decision(DEBUG, false, 3);
      return new Decision(OPERATIONAL, false, 3);
    }

    private static boolean starts(String name, String[] prefixes) {
      for (String prefix : prefixes) {
        if (name.startsWith(prefix)) return true;
      }
      return false;
    }
  }

  /** Whether an event's marked fields are redacted, as the schema marks them. */
  private static final class Redaction {
    private static final Pattern HASHED =
        Pattern.compile("hmac_[0-9a-f]{16}_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]");
    private static final Pattern CLEAR = Pattern.compile("null|true|false|-?[0-9]{1,12}|\"[a-z_]{1,32}\"");
    private static final List<String> CLEAR_PATHS =
        List.of("/visibility", "/permission", "/role", "/privacy", "/state", "/archived", "/enabled", "/retention_days",
            "/rule");
    private static final String KEPT = "*@.-_/: +()";

    static void check(GenericRecord event) {
      for (String person : List.of("actor", "subject")) {
        if (event.get(person) instanceof GenericRecord found) {
          hashed(person, found.get("id"));
          masked(person, found.get("display"));
          // Tokens are made by a cipher (AES-SIV) that no JDK has: the benchmark's input has no logins for this contestant.
          if (found.get("login") != null) throw new IllegalStateException(person + ".login: cannot be tokenised here");
        }
      }
      for (String field : List.of("sender", "approver", "credential", "source_ip")) hashed(field, event.get(field));
      masked("object_name", event.get("object_name"));
      masked("reason", event.get("reason"));
      if (event.get("detail") != null && !event.get("detail").toString().isEmpty()) {
        throw new IllegalStateException("detail: not omitted");
      }
      for (Object item : (List<?>) event.get("changes")) {
        GenericRecord change = (GenericRecord) item;
        boolean clear = CLEAR_PATHS.contains(String.valueOf(change.get("path")));
        for (String side : List.of("before", "after")) {
          Object value = change.get(side);
          if (value != null && !(clear && CLEAR.matcher(value.toString()).matches())) masked("changes", value);
        }
      }
    }

    private static void hashed(String field, Object value) {
      if (value == null) return;
      String text = value.toString();
      if (!text.isEmpty() && !HASHED.matcher(text).matches()) throw new IllegalStateException(field + ": not hashed");
    }

    private static void masked(String field, Object value) {
      if (value == null) return;
      int[] text = value.toString().codePoints().toArray();
      int end = text.length - Math.min(4, text.length / 4);
      int first = 0;
      int last = end;
      while (first < last && KEPT.indexOf(text[first]) >= 0) first++;
      while (first < last && KEPT.indexOf(text[last - 1]) >= 0) last--;
      if (first < last) throw new IllegalStateException(field + ": not masked");
    }
  }

  /** One chain a task: a raw partition. */
  private static final class Seal implements Processor<byte[], byte[], byte[], byte[]> {
    private static final byte[] CONTENT = "sealtrail/content/v1\n".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] SEAL = "sealtrail/seal/v1\n".getBytes(StandardCharsets.US_ASCII);
    private static final int HEADER = 10;
    private static final long DAY_US = 86_400_000_000L;
    private static final String[] CLASSES = {"SECURITY", "OPERATIONAL", "COMPLIANCE", "ADMIN", "DEBUG"};

    private final byte[] eventHeader;
    private final byte[] sealHeader;
    private final byte[] sealedHeader;
    private final byte[] policy;
    private final byte[] contentSchema;
    private final byte[] keyId;
    private final byte[] disclosure;
    private final byte[] topic;
    private final String chainPrefix;
    private final long commitUs;
    private final long[] retainUs = new long[CLASSES.length];
    private final Map<ByteBuffer, Mac> runs = new HashMap<>();
    private final Map<String, Mac> scopes = new HashMap<>();
    private final GenericDatumReader<GenericRecord> reader;
    private final GenericDatumWriter<GenericRecord> writer;
    private final MessageDigest sha;
    private final Signature signature;
    private final SecureRandom random = new SecureRandom();
    private final byte[] salts = new byte[4096];
    private int salted = salts.length;
    private final ByteArrayOutputStream buffer = new ByteArrayOutputStream(2048);
    private BinaryDecoder decoder;
    private BinaryEncoder encoder;
    private GenericRecord reused;

    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Integer, byte[]> heads;
    private int partition;
    private byte[] chain;
    private byte[] prev = new byte[32];
    private long seq;
    private long sealedAt;
    private long signedAt;

    Seal(JsonNode task) {
      eventHeader = HEX.parseHex(task.get("event_header").asText());
      sealHeader = HEX.parseHex(task.get("seal_header").asText());
      sealedHeader = HEX.parseHex(task.get("sealed_header").asText());
      policy = HEX.parseHex(task.get("policy").asText());
      contentSchema = HEX.parseHex(task.get("content_schema").asText());
      keyId = HEX.parseHex(task.get("key_id").asText());
      disclosure = HEX.parseHex(task.get("disclosure_key").asText());
      topic = task.get("raw").asText().getBytes(StandardCharsets.UTF_8);
      chainPrefix = task.get("chain").asText();
      commitUs = task.get("commit_ms").asLong() * 1000;
      for (int index = 0; index < CLASSES.length; index++) {
        retainUs[index] = task.get("retain_ms").get(CLASSES[index]).asLong() * 1000;
      }
      try {
        Schema schema = new Schema.Parser().parse(Path.of(task.get("event_schema").asText()).toFile());
        reader = new GenericDatumReader<>(schema);
        writer = new GenericDatumWriter<>(schema);
        sha = MessageDigest.getInstance("SHA-256");
        for (Map.Entry<String, JsonNode> run : task.get("mac_keys").properties()) {
          runs.put(ByteBuffer.wrap(HEX.parseHex(run.getKey())), hmac(HEX.parseHex(run.getValue().asText())));
        }
        byte[] seed = HEX.parseHex(task.get("signing_key").asText());
        byte[] wrapped = HEX.parseHex("302e020100300506032b657004220420" + HEX.formatHex(seed)); // RFC 8410
        PrivateKey key =
            KeyFactory.getInstance("Ed25519", AmazonCorrettoCryptoProvider.INSTANCE)
                .generatePrivate(new PKCS8EncodedKeySpec(wrapped));
        signature = Signature.getInstance("Ed25519", AmazonCorrettoCryptoProvider.INSTANCE);
        signature.initSign(key);
      } catch (IOException | GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      partition = context.taskId().partition();
      chain = (chainPrefix + partition).getBytes(StandardCharsets.UTF_8);
      heads = context.getStateStore("heads");
      byte[] head = heads.get(partition);
      if (head != null) {
        ByteBuffer state = ByteBuffer.wrap(head);
        state.get(prev);
        seq = state.getLong();
        sealedAt = state.getLong();
        signedAt = state.getLong();
      }
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        seal(record);
      } catch (IOException | GeneralSecurityException error) {
        throw new IllegalStateException(error);
      }
    }

    private void seal(Record<byte[], byte[]> record) throws IOException, GeneralSecurityException {
      byte[] value = record.value();
      // 1. Decode.
      if (!Arrays.equals(value, 0, HEADER, eventHeader, 0, HEADER)) throw new IllegalStateException("unknown schema");
      decoder = DecoderFactory.get().binaryDecoder(value, HEADER, value.length - HEADER, decoder);
      GenericRecord event = reused = reader.read(reused, decoder);
      // 2. Authenticate.
      GenericRecord emitter = (GenericRecord) event.get("emitter");
      Header mac = record.headers().lastHeader("st-mac");
      Mac run = runs.get(ByteBuffer.wrap(((GenericFixed) emitter.get("epoch")).bytes()));
      if (mac == null || run == null) throw new IllegalStateException("not authentic");
      run.update(topic);
      run.update(number((Long) emitter.get("seq")));
      run.update(sha.digest(value));
      if (!MessageDigest.isEqual(run.doFinal(), mac.value())) throw new IllegalStateException("not authentic");
      // 3. Redaction; 4. the content is the one encoding of what was decoded.
      Redaction.check(event);
      buffer.reset();
      buffer.write(eventHeader);
      encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
      writer.write(event, encoder);
      encoder.flush();
      byte[] content = buffer.toByteArray();
      // 5. Classify.
      Object authorization = event.get("authorization");
      String tenant = event.get("tenant").toString();
      Decision decision =
          Rules.decide(
              tenant,
              event.get("event_name").toString(),
              event.get("event_type").toString(),
              event.get("result").toString(),
              authorization == null ? "" : ((GenericRecord) authorization).get("decision").toString());
      byte[] eventId = ((GenericFixed) event.get("event_id")).bytes();
      // 6. Chain, 7. sign, 8. route.
      byte[] sealed = link(tenant, decision, eventId, content);
      Record<byte[], byte[]> out = new Record<>(record.key(), sealed, record.timestamp());
      context.forward(out, "archive");
      if ((decision.routes & 2) != 0) context.forward(out, "hot");
      if ((decision.routes & 4) != 0) context.forward(out, "siem");
      heads.put(partition, ByteBuffer.allocate(56).put(prev).putLong(seq).putLong(sealedAt).putLong(signedAt).array());
    }

    private byte[] link(String tenant, Decision decision, byte[] eventId, byte[] content)
        throws IOException, GeneralSecurityException {
      sealedAt = Math.max(sealedAt, System.currentTimeMillis() * 1000);
      boolean signed = decision.sign || sealedAt - signedAt >= commitUs;
      byte[] salt = salt();
      sha.update(CONTENT);
      sha.update(salt);
      sha.update(policy);
      sha.update(contentSchema);
      sha.update(eventId);
      sha.update(content);
      byte[] digest = sha.digest();
      Mac scope = scopes.get(tenant);
      if (scope == null) scopes.put(tenant, scope = hmac(scopeKey(tenant)));
      long retain = -Math.floorDiv(-(sealedAt + retainUs[decision.logClass]), DAY_US) * (DAY_US / 1000);

      buffer.reset();
      buffer.write(sealHeader);
      encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
      encoder.writeFixed(prev);
      encoder.writeFixed(digest);
      encoder.writeFixed(scope.doFinal(number(seq)), 0, 16);
      encoder.writeInt(1); // version
      encoder.writeEnum(1); // EVENT
      encoder.writeEnum(0); // NONE
      encoder.writeEnum(decision.logClass);
      encoder.writeBoolean(signed);
      encoder.writeInt(decision.routes);
      encoder.writeLong(seq);
      encoder.writeLong(context.recordMetadata().orElseThrow().offset());
      encoder.writeLong(1);
      encoder.writeLong(sealedAt);
      encoder.writeLong(retain);
      encoder.writeBytes(chain);
      encoder.flush();
      byte[] seal = buffer.toByteArray();

      sha.update((byte) 0);
      prev = sha.digest(seal);
      seq++;

      buffer.reset();
      buffer.write(sealedHeader);
      encoder = EncoderFactory.get().binaryEncoder(buffer, encoder);
      encoder.writeBytes(seal);
      encoder.writeFixed(salt);
      encoder.writeFixed(policy);
      encoder.writeFixed(contentSchema);
      encoder.writeFixed(eventId);
      encoder.writeBytes(content);
      encoder.writeIndex(signed ? 1 : 0);
      if (signed) {
        signature.update(SEAL);
        signature.update(prev);
        encoder.writeFixed(keyId);
        encoder.writeFixed(signature.sign());
        signedAt = sealedAt;
      }
      encoder.flush();
      return buffer.toByteArray();
    }

    private byte[] scopeKey(String tenant) throws GeneralSecurityException {
      byte[] name = tenant.getBytes(StandardCharsets.UTF_8);
      Mac made = hmac(disclosure);
      made.update(ByteBuffer.allocate(4).putInt(name.length).array());
      made.update(name);
      return made.doFinal(chain);
    }

    private byte[] salt() {
      if (salted == salts.length) {
        random.nextBytes(salts);
        salted = 0;
      }
      return Arrays.copyOfRange(salts, salted, salted += 16);
    }

    private static Mac hmac(byte[] key) throws GeneralSecurityException {
      Mac made = Mac.getInstance("HmacSHA256");
      made.init(new SecretKeySpec(key, "HmacSHA256"));
      return made;
    }

    private static byte[] number(long value) {
      return ByteBuffer.allocate(8).putLong(value).array();
    }
  }
}
